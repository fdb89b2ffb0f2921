import java.util.List;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Function;

/** One connection, as the suite needs it. Each release of the client has an implementation {@code Hubs} in its folder. */
interface Hub {
    /** What a release can do, and makes connections. */
    interface Factory {
        Hub connect(String url, boolean polling, boolean skipNegotiation, String token);

        /** Why a case is impossible with this release, or null. */
        String limit(Feature feature);
    }

    enum Feature {
        LONG_POLLING,
        CONNECTION_ID,
        SERVER_STREAMS,
        UPLOADS,
        CLIENT_RESULTS,
        /** Whether {@code invoke} can take a result that is null. */
        NULL_RESULTS,
        /** Whether it takes a message that comes at once behind the handshake response. */
        EARLY_MESSAGES
    }

    void start();

    void stop();

    String connectionId();

    <T> T invoke(Class<T> type, String method, Object... args);

    void send(String method, Object... args);

    /** Collects a stream to its end; stops it after {@code limit} items. */
    <T> List<T> stream(Class<T> type, int limit, String method, Object... args);

    /** A stream of these items, so many milliseconds apart, that can be passed as an argument; fails at its end if the text is not null. */
    Object upload(List<?> items, long pause, String error);

    <T> void on(String target, Class<T> type, Consumer<T> handler);

    <T, U> void on(String target, Class<T> first, Class<U> second, BiConsumer<T, U> handler);

    void onWithResult(String target, Function<String, String> handler);

    void onClosed(Consumer<Exception> handler);

    void pingEvery(long milliseconds);
}
