import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import io.reactivex.Single;
import io.reactivex.plugins.RxJavaPlugins;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Function;

final class Hubs implements Hub.Factory {
    static {
        // A socket that breaks after its stop is told to nobody, which RxJava would print at length.
        RxJavaPlugins.setErrorHandler(error -> { });
    }

    @Override
    public Hub connect(String url, boolean polling, boolean skipNegotiation, String token) {
        HttpHubConnectionBuilder builder = HubConnectionBuilder.create(url).shouldSkipNegotiate(skipNegotiation);
        if (token != null) builder = builder.withAccessTokenProvider(Single.just(token));
        return new Connection(builder.build());
    }

    @Override
    public String limit(Hub.Feature feature) {
        switch (feature) {
            case LONG_POLLING: return "this release has WebSockets only";
            case CONNECTION_ID: return "this release does not show its connection id";
            case SERVER_STREAMS: return "this release has no streams";
            case UPLOADS: return "this release has no upload streams";
            case CLIENT_RESULTS: return "this release sends no result for a call from the server";
            case NULL_RESULTS: return "this release cannot take a result that is null";
            case EARLY_MESSAGES: return "this release fails on a message that comes before its start has noticed the handshake response";
            default: return null;
        }
    }

    private static final class Connection implements Hub {
        private final HubConnection connection;

        Connection(HubConnection connection) {
            this.connection = connection;
        }

        @Override
        public void start() {
            if (!connection.start().blockingAwait(Suite.PATIENCE, TimeUnit.SECONDS)) throw new AssertionError("start hangs");
        }

        @Override
        public void stop() {
            if (!connection.stop().blockingAwait(Suite.PATIENCE, TimeUnit.SECONDS)) throw new AssertionError("stop hangs");
        }

        @Override
        public String connectionId() {
            throw new UnsupportedOperationException();
        }

        @Override
        public <T> T invoke(Class<T> type, String method, Object... args) {
            if (type == Void.class) {
                // It fails on a null result, so such a call goes one way and one with a result behind it shows that it is done.
                connection.send(method, args);
                invoke(Integer.class, "Add", 1, 1);
                return null;
            }
            return connection.invoke(type, method, args).timeout(Suite.PATIENCE, TimeUnit.SECONDS).blockingGet();
        }

        @Override
        public void send(String method, Object... args) {
            connection.send(method, args);
        }

        @Override
        public <T> List<T> stream(Class<T> type, int limit, String method, Object... args) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Object upload(List<?> items, long pause, String error) {
            throw new UnsupportedOperationException();
        }

        @Override
        public <T> void on(String target, Class<T> type, Consumer<T> handler) {
            connection.on(target, handler::accept, type);
        }

        @Override
        public <T, U> void on(String target, Class<T> first, Class<U> second, BiConsumer<T, U> handler) {
            connection.on(target, handler::accept, first, second);
        }

        @Override
        public void onWithResult(String target, Function<String, String> handler) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void onClosed(Consumer<Exception> handler) {
            connection.onClosed(handler::accept);
        }

        @Override
        public void pingEvery(long milliseconds) {
            connection.setKeepAliveInterval(milliseconds);
        }
    }
}
