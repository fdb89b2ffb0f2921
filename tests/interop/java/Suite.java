import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * java Suite URL [--transports …] [--without TEXT,TEXT] [--only TEXT] [--reference]
 *
 * <p>The cases of the conformance hub for the Java client, whichever release the class path holds.
 */
public final class Suite {
    static final long PATIENCE = 15;

    private final Hub.Factory hubs = new Hubs();
    private final String url;
    private final List<String> transports;
    private final List<String> without;
    private final String only;
    private int passed;
    private int failed;

    private Suite(String[] args) {
        url = args[0];
        transports = Arrays.asList(option(args, "--transports", "WebSockets,LongPolling").split(","));
        without = Arrays.stream(option(args, "--without", "").split(",")).filter(text -> !text.isEmpty()).collect(Collectors.toList());
        only = option(args, "--only", "");
    }

    public static void main(String[] args) {
        Suite suite = new Suite(args);
        if (suite.transports.contains("WebSockets")) {
            suite.runLane(new Lane("WebSockets/json", false, false));
            suite.runLane(new Lane("WebSockets/json without negotiation", false, true));
        }
        String noPolling = suite.hubs.limit(Hub.Feature.LONG_POLLING);
        if (suite.transports.contains("LongPolling") && noPolling == null) suite.runLane(new Lane("LongPolling/json", true, false));
        if (suite.transports.contains("LongPolling") && noPolling != null) System.out.println("cannot LongPolling/json: " + noPolling);
        System.out.println(suite.passed + " passed, " + suite.failed + " failed");
        // The client's threads go on for a minute.
        System.exit(suite.failed > 0 || suite.passed == 0 ? 1 : 0);
    }

    private static String option(String[] args, String name, String fallback) {
        int at = Arrays.asList(args).indexOf(name);
        return at < 0 ? fallback : args[at + 1];
    }

    // -------------------------------------------------------------------------------------------- lanes, cases, peers

    private static final class Lane {
        final String name;
        final boolean polling;
        final boolean skipNegotiation;

        Lane(String name, boolean polling, boolean skipNegotiation) {
            this.name = name;
            this.polling = polling;
            this.skipNegotiation = skipNegotiation;
        }
    }

    private interface Case {
        void run(Context context) throws Exception;
    }

    /** Thrown by a case that the client cannot do, whatever the server. */
    private static final class Cannot extends RuntimeException {
        private static final long serialVersionUID = 1;

        Cannot(String reason) {
            super(reason);
        }
    }

    private void runLane(Lane lane) {
        cases().forEach((name, body) -> {
            String label = lane.name + " " + name;
            if (!label.contains(only)) return;
            if (without.stream().anyMatch(label::contains)) {
                System.out.println("left out " + label);
                return;
            }
            try (Context context = new Context(lane)) {
                body.run(context);
                passed++;
                System.out.println("ok   " + label);
            } catch (Cannot reason) {
                System.out.println("cannot " + label + ": " + reason.getMessage());
            } catch (Throwable problem) {
                failed++;
                System.out.println("FAIL " + label + ": " + problem);
                problem.printStackTrace(System.out);
            }
        });
    }

    private final class Context implements AutoCloseable {
        final Lane lane;
        final List<Peer> peers = new ArrayList<>();

        Context(Lane lane) {
            this.lane = lane;
        }

        void needs(Hub.Feature feature) {
            String limit = hubs.limit(feature);
            if (limit != null) throw new Cannot(limit);
        }

        Peer open() throws Exception {
            return open("/conformance", null);
        }

        Peer open(String path, String token) throws Exception {
            return open(path, token, hub -> { });
        }

        Peer open(String path, String token, Consumer<Hub> prepare) throws Exception {
            int tries = hubs.limit(Hub.Feature.EARLY_MESSAGES) == null ? 1 : 5;
            for (;;) {
                Peer peer = new Peer(hubs.connect(url + path, lane.polling, lane.skipNegotiation, token));
                prepare.accept(peer.hub);
                peers.add(peer);
                tries--;
                try {
                    peer.start(tries == 0 ? PATIENCE : 2);
                    return peer;
                } catch (AssertionError missed) {
                    if (tries == 0) throw missed;
                    System.out.println("     once more: " + hubs.limit(Hub.Feature.EARLY_MESSAGES));
                }
            }
        }

        @Override
        public void close() {
            for (Peer peer : peers) {
                try {
                    peer.hub.stop();
                } catch (Throwable ignored) {
                    // It may have ended with the case.
                }
            }
        }
    }

    private static final class Peer {
        final Hub hub;
        final BlockingQueue<String> welcomes = new LinkedBlockingQueue<>();
        final BlockingQueue<Object[]> messages = new LinkedBlockingQueue<>();
        final BlockingQueue<String> closed = new LinkedBlockingQueue<>();
        String id;

        Peer(Hub hub) {
            this.hub = hub;
            hub.on("welcome", String.class, welcomes::add);
            hub.on("message", String.class, JsonElement.class, (from, x) -> messages.add(new Object[] {from, x}));
            hub.onClosed(error -> closed.add(error == null ? "clean" : String.valueOf(error.getMessage())));
        }

        void start() throws Exception {
            start(PATIENCE);
        }

        void start(long patience) throws Exception {
            hub.start();
            id = welcomes.poll(patience, TimeUnit.SECONDS);
            if (id == null) throw new AssertionError("nothing came: welcome");
        }

        void call(String method, Object... args) {
            hub.invoke(Void.class, method, args);
        }

        JsonElement ask(String method, Object... args) {
            return hub.invoke(JsonElement.class, method, args);
        }

        /** The next message from that connection; broadcasts of others pass by. */
        JsonElement messageFrom(String sender) throws Exception {
            for (;;) {
                Object[] message = next(messages, "a message");
                if (message[0].equals(sender)) return (JsonElement) message[1];
            }
        }
    }

    private static <T> T next(BlockingQueue<T> inbox, String what) throws Exception {
        T value = inbox.poll(PATIENCE, TimeUnit.SECONDS);
        if (value == null) throw new AssertionError("nothing came: " + what);
        return value;
    }

    // -------------------------------------------------------------------------------------------- assertions

    private static void equal(Object actual, Object expected, String what) {
        if (!expected.equals(actual)) throw new AssertionError(what + ": got " + shortened(actual) + ", wanted " + shortened(expected));
    }

    private static String shortened(Object value) {
        String text = String.valueOf(value);
        return text.length() > 300 ? text.substring(0, 300) : text;
    }

    private static void fails(Runnable call, String text) {
        try {
            call.run();
        } catch (RuntimeException error) {
            equal(error.getMessage(), text, "error text");
            return;
        }
        throw new AssertionError("no error, but wanted " + text);
    }

    @SuppressWarnings("deprecation") // The static method came after the gson of 1.0.0.
    private static JsonElement json(String text) {
        return new JsonParser().parse(text);
    }

    private static JsonElement jsonOf(Object value) {
        return new Gson().toJsonTree(value);
    }

    private static String unexpected(String method, String detail) {
        return "An unexpected error occurred invoking '" + method + "' on the server." + (detail.isEmpty() ? "" : " HubException: " + detail);
    }

    private static JsonObject departed(Peer watcher, String id) throws Exception {
        for (int tries = 0; tries < 500; tries++) {
            try {
                JsonElement record = watcher.ask("Departed", id);
                if (record != null && record.isJsonObject()) return record.getAsJsonObject();
            } catch (RuntimeException nullResult) {
                // No record yet, in the release that cannot take null.
            }
            Thread.sleep(20);
        }
        throw new AssertionError("no record of the departure");
    }

    /** Has {@code from} call the send and asserts, by a fence behind it, that exactly {@code expected} got it. */
    private static void delivered(List<Peer> crowd, Peer from, List<Peer> expected, String method, Object... args) throws Exception {
        String tag = method + " " + UUID.randomUUID();
        Object[] all = Arrays.copyOf(args, args.length + 1);
        all[args.length] = tag;
        from.call(method, all);
        for (Peer peer : crowd) {
            JsonElement fence = new JsonPrimitive("fence " + tag);
            from.call("ToConnection", peer.id, "fence " + tag);
            int copies = 0;
            for (JsonElement x = peer.messageFrom(from.id); !x.equals(fence); x = peer.messageFrom(from.id)) {
                if (x.equals(new JsonPrimitive(tag))) copies++;
            }
            equal(copies, Collections.frequency(expected, peer), "copies of " + method + " for peer " + crowd.indexOf(peer));
        }
    }

    private String token(String user, String role) throws Exception {
        String query = "user=" + URLEncoder.encode(user, StandardCharsets.UTF_8) + "&role=" + URLEncoder.encode(role, StandardCharsets.UTF_8);
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/token?" + query)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    // -------------------------------------------------------------------------------------------- cases

    private Map<String, Case> cases() {
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("welcome names the connection", t -> {
            Peer peer = t.open();
            Peer other = t.open();
            equal(peer.id.length(), 22, "length of the id");
            if (peer.id.equals(other.id)) throw new AssertionError("two connections have one id");
            JsonObject me = peer.ask("WhoAmI").getAsJsonObject();
            equal(me.get("connectionId").getAsString(), peer.id, "id");
            equal(me.get("transport").getAsString(), t.lane.polling ? "LongPolling" : "WebSockets", "transport");
        });
        cases.put("the client knows its connection id", t -> {
            t.needs(Hub.Feature.CONNECTION_ID);
            if (t.lane.skipNegotiation) throw new Cannot("without negotiation nobody tells the client");
            Peer peer = t.open();
            equal(peer.hub.connectionId(), peer.id, "id");
        });
        cases.put("echo values", t -> {
            Peer peer = t.open();
            List<String> values = new ArrayList<>(Arrays.asList(
                    "true", "0", "-1", "127", "128", "65536", "4294967296", "9007199254740993", "-9223372036854775808", "0.5", "\"\"", "\"text\"",
                    "\"quote \\\" backslash \\\\ feed \\n nul \\u0000\"", "\"ünï ☃ 😀\"", "\"<>&'+\"", "[]", "[1,\"two\",[3]]", "{}", "{\"a\":1,\"B\":{\"c\":[true]}}"));
            for (String value : values) equal(peer.ask("Echo", json(value)), json(value), "Echo");
            equal(peer.hub.invoke(Integer.class, "aDD", Integer.MIN_VALUE, Integer.MAX_VALUE), -1, "Add");
        });
        cases.put("nothing and null", t -> {
            t.needs(Hub.Feature.NULL_RESULTS);
            Peer peer = t.open();
            peer.call("Nothing");
            peer.call("Null");
        });
        cases.put("error texts", t -> {
            Peer peer = t.open();
            fails(() -> peer.ask("Throw", "boom ☃"), unexpected("Throw", "boom ☃"));
            fails(() -> peer.ask("Crash"), unexpected("Crash", ""));
            fails(() -> peer.ask("nosuch"), "Failed to invoke 'nosuch' due to an error on the server. HubException: Method does not exist.");
            fails(() -> peer.ask("Add", 1), "Failed to invoke 'Add' due to an error on the server.");
            fails(() -> peer.ask("Add", 1, "two"), "Failed to invoke 'Add' due to an error on the server.");
            fails(() -> peer.ask("Counter", 1, 0), "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.");
            equal(peer.hub.invoke(Integer.class, "Add", 1, 1), 2, "after the errors");
        });
        cases.put("typed object", t -> {
            Peer peer = t.open();
            // Its gson leaves null members out of what it sends; they come back with the values of missing ones.
            JsonObject full = json("{\"text\":\"ünï ☃\",\"int\":-2147483648,\"long\":-9223372036854775808,\"float\":1.5,\"bool\":true,"
                    + "\"bytes\":\"AH//\",\"list\":[1,-2],\"map\":{\"a\":\"b\"}}").getAsJsonObject();
            JsonObject back = peer.ask("Types", full).getAsJsonObject();
            full.add("nothing", json("null"));
            equal(back, full, "Types");
        });
        cases.put("order of calls", t -> {
            if (t.lane.polling) throw new Cannot("this client posts its calls side by side, so they may overtake each other");
            Peer peer = t.open();
            for (int n = 0; n < 100; n++) peer.hub.send("Order", n);
            equal(peer.ask("Order", 100), jsonOf(IntStream.rangeClosed(0, 100).toArray()), "order");
            equal(peer.hub.invoke(String.class, "Slow", 100), "done", "Slow");
        });
        cases.put("one-way calls", t -> {
            Peer peer = t.open();
            peer.hub.send("nosuch", 1);
            peer.hub.send("Crash");
            peer.hub.send("ToCaller", "after the errors");
            equal(peer.messageFrom(peer.id), new JsonPrimitive("after the errors"), "message");
        });
        cases.put("items belong to the connection", t -> {
            Peer a = t.open();
            Peer b = t.open();
            a.call("SetItem", "k", json("{\"deep\":[1,\"x\"]}"));
            b.call("SetItem", "k", "other");
            equal(a.ask("GetItem", "k"), json("{\"deep\":[1,\"x\"]}"), "item");
            equal(b.ask("GetItem", "k"), new JsonPrimitive("other"), "item");
        });
        cases.put("sends", t -> {
            Peer a = t.open();
            Peer b = t.open();
            Peer c = t.open();
            List<Peer> crowd = Arrays.asList(a, b, c);
            delivered(crowd, a, crowd, "ToAll");
            delivered(crowd, a, Arrays.asList(b, c), "ToOthers");
            delivered(crowd, a, Arrays.asList(a), "ToCaller");
            delivered(crowd, a, Arrays.asList(b), "ToAllExcept", (Object) new String[] {a.id, c.id});
            delivered(crowd, a, Arrays.asList(b), "ToConnection", b.id);
            delivered(crowd, b, Arrays.asList(a, c), "ToConnections", (Object) new String[] {a.id, c.id});
            delivered(crowd, b, Arrays.asList(), "ToUser", "nobody");
        });
        cases.put("groups", t -> {
            Peer a = t.open();
            Peer b = t.open();
            Peer c = t.open();
            List<Peer> crowd = Arrays.asList(a, b, c);
            String red = "red " + a.id;
            String blue = "blue " + a.id;
            a.call("Join", red);
            b.call("Join", red);
            b.call("Join", blue);
            c.call("Join", blue);
            delivered(crowd, c, Arrays.asList(a, b), "ToGroup", red);
            delivered(crowd, c, Arrays.asList(a, b, b, c), "ToGroups", (Object) new String[] {red, blue});
            delivered(crowd, c, Arrays.asList(b), "ToGroupExcept", red, new String[] {a.id});
            delivered(crowd, a, Arrays.asList(b), "ToOthersInGroup", red);
            b.call("Leave", red);
            delivered(crowd, c, Arrays.asList(a), "ToGroup", red);
        });
        cases.put("server stream", t -> {
            t.needs(Hub.Feature.SERVER_STREAMS);
            Peer peer = t.open();
            equal(peer.hub.stream(Integer.class, 1_000_000, "Counter", 5, 10), Arrays.asList(0, 1, 2, 3, 4), "items");
            equal(peer.hub.stream(Integer.class, 1_000_000, "Counter", 0, 0), Arrays.asList(), "items");
            equal(peer.hub.stream(Integer.class, 1_000_000, "Counter", 1000, 0).size(), 1000, "items");
            fails(() -> peer.hub.stream(Integer.class, 1_000_000, "CounterThrow", 3), "An error occurred on the server while streaming results. HubException: counter failed");
        });
        cases.put("a cancelled stream stops", t -> {
            t.needs(Hub.Feature.SERVER_STREAMS);
            Peer peer = t.open();
            equal(peer.hub.stream(Integer.class, 3, "Forever"), Arrays.asList(0, 1, 2), "items");
            for (int tries = 0; peer.hub.invoke(Integer.class, "Cancellations") < 1; tries++) {
                if (tries > 200) throw new AssertionError("the cancellation is not counted");
                Thread.sleep(20);
            }
        });
        cases.put("upload stream", t -> {
            t.needs(Hub.Feature.UPLOADS);
            Peer peer = t.open();
            // Over long polling this client posts side by side, so items that come at once overtake each other.
            long pause = t.lane.polling ? 50 : 0;
            List<Integer> numbers = IntStream.range(0, t.lane.polling ? 10 : 100).boxed().collect(Collectors.toList());
            int sum = numbers.stream().mapToInt(n -> n).sum();
            equal(peer.hub.invoke(Integer.class, "Sum", peer.hub.upload(numbers, pause, null)), sum, "Sum");
            equal(peer.hub.invoke(Integer.class, "Sum", peer.hub.upload(Arrays.asList(), pause, null)), 0, "Sum of nothing");
            equal(peer.hub.invoke(String.class, "UploadError", peer.hub.upload(numbers, pause, null)), "none", "UploadError");
            String error = peer.hub.invoke(String.class, "UploadError", peer.hub.upload(numbers, pause, "bad upload"));
            if (!error.contains("bad upload")) throw new AssertionError("the upload's error came as " + error);
            equal(peer.hub.invoke(String.class, "Join2", peer.hub.upload(Arrays.asList("a0", "a1"), pause, null), peer.hub.upload(Arrays.asList("b0"), pause, null)), "a0+a1|b0", "Join2");
            equal(peer.hub.stream(String.class, 1_000_000, "EchoStream", peer.hub.upload(Arrays.asList("x", "y", "z"), pause, null)), Arrays.asList("x", "y", "z"), "EchoStream");
        });
        cases.put("client results", t -> {
            t.needs(Hub.Feature.CLIENT_RESULTS);
            Peer a = t.open();
            Peer b = t.open();
            Peer mute = t.open();
            b.hub.onWithResult("answer", question -> {
                if (question.equals("throw")) throw new IllegalStateException("no idea");
                return "b: " + question;
            });
            equal(a.hub.invoke(String.class, "Ask", b.id, "who ☃?"), "b: who ☃?", "Ask");
            equal(b.hub.invoke(String.class, "Ask", b.id, "myself?"), "b: myself?", "Ask");
            fails(() -> a.ask("Ask", b.id, "throw"), unexpected("Ask", "no idea"));
            fails(() -> a.ask("Ask", mute.id, "x"), unexpected("Ask", "Client failed to parse argument(s)."));
            fails(() -> a.ask("Ask", "no-such-connection", "x"), unexpected("Ask", ""));
        });
        cases.put("many calls at once", t -> {
            Peer peer = t.open();
            List<CompletableFuture<Integer>> calls = new ArrayList<>();
            for (int n = 0; n < 100; n++) {
                int number = n;
                calls.add(CompletableFuture.supplyAsync(() -> peer.hub.invoke(Integer.class, "Add", number, 1)));
            }
            for (int n = 0; n < 100; n++) equal(calls.get(n).get(PATIENCE, TimeUnit.SECONDS), n + 1, "sum");
        });
        cases.put("large messages", t -> {
            Peer peer = t.open();
            for (int n : new int[] {0, 1, 125, 126, 65535, 65536, 2_000_000}) {
                equal(peer.hub.invoke(String.class, "Large", n), "x".repeat(n), "Large");
            }
            equal(peer.hub.invoke(String.class, "Echo", "y".repeat(32_000)), "y".repeat(32_000), "Echo");
        });
        cases.put("a message over the limit closes the connection", t -> {
            Peer peer = t.open();
            Peer watcher = t.open();
            peer.hub.send("Echo", "z".repeat(40_000));
            String closed = next(peer.closed, "close");
            if (!closed.contains("Connection closed with an error.")) throw new AssertionError("closed with " + closed);
            String error = departed(watcher, peer.id).get("error").getAsString();
            if (!error.contains("maximum message size")) throw new AssertionError("recorded " + error);
        });
        cases.put("abort", t -> {
            Peer peer = t.open();
            Peer watcher = t.open();
            peer.hub.send("Abort");
            equal(next(peer.closed, "close"), "clean", "close");
            JsonObject record = departed(watcher, peer.id);
            if (record.has("error") && !record.get("error").isJsonNull()) throw new AssertionError("recorded " + record);
        });
        cases.put("departed after a stop, and started again", t -> {
            Peer peer = t.open();
            Peer watcher = t.open();
            String former = peer.id;
            peer.hub.stop();
            departed(watcher, former);
            if (hubs.limit(Hub.Feature.EARLY_MESSAGES) != null) return;
            peer.start();
            if (peer.id.equals(former)) throw new AssertionError("a new start kept the old id");
            equal(peer.hub.invoke(Integer.class, "Add", 1, 1), 2, "Add");
        });
        cases.put("bearer token, user and role", t -> {
            Peer peer = t.open("/conformance-auth", token("ann", "boss"));
            JsonObject me = peer.ask("WhoAmI").getAsJsonObject();
            equal(me.get("userId").getAsString(), "ann", "user");
            if (!me.get("claims").toString().contains("\"boss\"")) throw new AssertionError("no role: " + me);
        });
        cases.put("keep-alive holds an idle connection", t -> {
            Peer peer = t.open("/conformance-small", null, hub -> hub.pingEvery(400));
            Thread.sleep(5000);
            equal(peer.hub.invoke(Integer.class, "Add", 1, 1), 2, "Add");
        });
        return cases;
    }
}
