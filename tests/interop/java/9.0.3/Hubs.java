import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.TransportEnum;
import io.reactivex.rxjava3.core.Completable;
import io.reactivex.rxjava3.core.Observable;
import io.reactivex.rxjava3.core.Single;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Function;

final class Hubs implements Hub.Factory {
    @Override
    public Hub connect(String url, boolean polling, boolean skipNegotiation, String token) {
        HttpHubConnectionBuilder builder = HubConnectionBuilder.create(url)
                .withTransport(polling ? TransportEnum.LONG_POLLING : TransportEnum.WEBSOCKETS)
                .shouldSkipNegotiate(skipNegotiation);
        if (token != null) builder = builder.withAccessTokenProvider(Single.just(token));
        return new Connection(builder.build());
    }

    @Override
    public String limit(Hub.Feature feature) {
        return null;
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
            return connection.getConnectionId();
        }

        @Override
        public <T> T invoke(Class<T> type, String method, Object... args) {
            if (type == Void.class) {
                connection.invoke(method, args).timeout(Suite.PATIENCE, TimeUnit.SECONDS).blockingAwait();
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
            return connection.stream(type, method, args).take(limit).timeout(Suite.PATIENCE, TimeUnit.SECONDS).toList().blockingGet();
        }

        @Override
        public Object upload(List<?> items, long pause, String error) {
            Observable<Object> upload = Observable.fromIterable(items);
            if (pause > 0) {
                upload = upload.concatMap(item -> Observable.<Object>just(item).delay(pause, TimeUnit.MILLISECONDS))
                        .concatWith(Completable.timer(pause, TimeUnit.MILLISECONDS));
            }
            return error == null ? upload : upload.concatWith(Observable.error(new Exception(error)));
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
            connection.onWithResult(target, (String question) -> Single.fromCallable(() -> handler.apply(question)), String.class);
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
