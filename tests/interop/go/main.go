// Command suite runs the cases of the conformance hub that the Go client can do.
//
//	suite URL [-transports WebSockets,ServerSentEvents] [-without TEXT,TEXT] [-only TEXT] [-reference]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/philippseith/signalr"
)

const patience = 10 * time.Second

var (
	address    string
	transports = flag.String("transports", "WebSockets,ServerSentEvents", "")
	without    = flag.String("without", "", "")
	only       = flag.String("only", "", "")
	reference  = flag.Bool("reference", false, "")
)

type lane struct {
	transport signalr.TransportType
	format    signalr.TransferFormatType
}

func (l lane) String() string {
	if l.format == signalr.TransferFormatBinary {
		return string(l.transport) + "/messagepack"
	}
	return string(l.transport) + "/json"
}

func (l lane) sse() bool { return l.transport == signalr.TransportServerSentEvents }

// cannot is what a case returns that the client cannot do, whatever the server.
type cannot string

func (c cannot) Error() string { return string(c) }

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "suite URL [options]")
		os.Exit(2)
	}
	address = os.Args[1]
	_ = flag.CommandLine.Parse(os.Args[2:])
	passed, failed := 0, 0
	for _, l := range []lane{
		{signalr.TransportWebSockets, signalr.TransferFormatText},
		{signalr.TransportWebSockets, signalr.TransferFormatBinary},
		{signalr.TransportServerSentEvents, signalr.TransferFormatText},
	} {
		if !strings.Contains(*transports, string(l.transport)) {
			continue
		}
		for _, c := range cases {
			label := fmt.Sprintf("%v %s", l, c.name)
			if !strings.Contains(label, *only) {
				continue
			}
			if leftOut(label) {
				fmt.Println("left out", label)
				continue
			}
			err := timed(func() error { return run(l, c.body) })
			// Over server-sent events it loses what does not come whole in one read, which no server can promise.
			for again := 0; l.sse() && again < 2 && err != nil && !errors.As(err, new(cannot)); again++ {
				fmt.Printf("     %s again, after: %v\n", label, err)
				err = timed(func() error { return run(l, c.body) })
			}
			var reason cannot
			switch {
			case err == nil:
				passed++
				fmt.Println("ok  ", label)
			case errors.As(err, &reason):
				fmt.Printf("cannot %s: %v\n", label, reason)
			default:
				failed++
				fmt.Printf("FAIL %s: %v\n", label, err)
			}
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func leftOut(label string) bool {
	for _, text := range strings.Split(*without, ",") {
		if text != "" && strings.Contains(label, text) {
			return true
		}
	}
	return false
}

// timed gives a case a minute, since the client's own locks can hold it for ever.
func timed(body func() error) error {
	done := make(chan error, 1)
	go func() { done <- body() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		return errors.New("not done after a minute")
	}
}

// run gives a case its context and turns a panic, which is how cases fail, into an error.
func run(l lane, body func(*scene)) (err error) {
	t := &scene{lane: l}
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case error:
			err = problem
		default:
			err = fmt.Errorf("%v", problem)
		}
		for _, p := range t.peers {
			p.stop()
		}
	}()
	body(t)
	return nil
}

// ------------------------------------------------------------------------------------------------ peers

type scene struct {
	lane  lane
	peers []*peer
}

type message struct {
	from string
	x    any
}

// receiver has the client methods of every peer.
type receiver struct {
	welcomes chan string
	messages chan message
}

func (r *receiver) Welcome(id string)          { r.welcomes <- id }
func (r *receiver) Message(from string, x any) { r.messages <- message{from, x} }

// answering also answers the server's questions.
type answering struct{ *receiver }

func (a answering) Answer(question string) string {
	if question == "panic" {
		panic("no idea")
	}
	return "b: " + question
}

type peer struct {
	*receiver
	client signalr.Client
	id     string
}

type silent struct{}

func (silent) Log(...interface{}) error { return nil }

func (t *scene) open(options ...string) *peer {
	p := t.connect(options...)
	// The client loses what comes in one frame with the handshake response, the reference's welcome for example, so the id
	// is asked for; that the welcome comes is a case of its own.
	p.id = p.object("WhoAmI")["connectionId"].(string)
	return p
}

// connect takes a path, "answering", and "token=…".
func (t *scene) connect(options ...string) *peer {
	path, token, answers := "/conformance", "", false
	for _, option := range options {
		switch {
		case strings.HasPrefix(option, "/"):
			path = option
		case strings.HasPrefix(option, "token="):
			token = strings.TrimPrefix(option, "token=")
		case option == "answering":
			answers = true
		}
	}
	r := &receiver{welcomes: make(chan string, 16), messages: make(chan message, 1024)}
	var methods any = r
	if answers {
		methods = answering{r}
	}
	target := address + path
	if token != "" {
		// Its POSTs carry no header, so over server-sent events the token can only stand in the query.
		target += "?access_token=" + url.QueryEscape(token)
	}
	client, err := signalr.NewClient(context.Background(),
		signalr.WithHttpConnection(context.Background(), target, signalr.WithTransports(t.lane.transport), signalr.WithHTTPHeaders(func() http.Header {
			header := http.Header{}
			if token != "" {
				header.Set("Authorization", "Bearer "+token)
			}
			return header
		})),
		signalr.TransferFormat(t.lane.format), signalr.WithReceiver(methods), signalr.Logger(silent{}, false),
		signalr.MaximumReceiveMessageSize(8<<20), signalr.KeepAliveInterval(time.Second), signalr.TimeoutInterval(30*time.Second))
	must(err)
	p := &peer{receiver: r, client: client}
	t.peers = append(t.peers, p)
	client.Start()
	// Not by WaitForState: an observer that is told two changes at once blocks the client for good.
	eventually(func() bool { return client.State() == signalr.ClientConnected }, "the connection starts")
	return p
}

func (p *peer) stop() {
	done := make(chan struct{})
	go func() {
		p.client.Stop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// try calls a method. The client tells a result as two entries, the value and a nil error, in either order, or as none for
// null.
func (p *peer) try(method string, arguments ...any) (value any, err error) {
	return outcome(p.client.Invoke(method, arguments...), method)
}

func outcome(results <-chan signalr.InvokeResult, method string) (value any, err error) {
	deadline := time.After(patience)
	for {
		select {
		case result, more := <-results:
			if !more {
				return value, err
			}
			if result.Value != nil {
				value = result.Value
			}
			if result.Error != nil {
				err = result.Error
			}
		case <-deadline:
			panic(fmt.Errorf("nothing came: the result of %s", method))
		}
	}
}

func (p *peer) invoke(method string, arguments ...any) any {
	value, err := p.try(method, arguments...)
	if err != nil {
		panic(fmt.Errorf("%s%v: %w", method, arguments, err))
	}
	return value
}

func (p *peer) object(method string, arguments ...any) map[string]any {
	value := p.invoke(method, arguments...)
	object, ok := plain(value).(map[string]any)
	if !ok {
		panic(fmt.Errorf("%s gave %v", method, show(value)))
	}
	return object
}

// stream gives all items and the error at the end.
func (p *peer) stream(method string, arguments ...any) (items []any, err error) {
	items = []any{}
	results := p.client.PullStream(method, arguments...)
	deadline := time.After(patience)
	for {
		select {
		case result, more := <-results:
			if !more {
				return items, nil
			}
			if result.Error != nil {
				return items, result.Error
			}
			items = append(items, result.Value)
		case <-deadline:
			panic(fmt.Errorf("%s: the stream does not end after %v", method, show(items)))
		}
	}
}

// messageFrom gives the next message from that connection; broadcasts of others pass by.
func (p *peer) messageFrom(id string) any {
	for {
		if m := within(p.messages, "a message"); m.from == id {
			return m.x
		}
	}
}

// ------------------------------------------------------------------------------------------------ assertions

func within[T any](ch <-chan T, what string) T {
	select {
	case value := <-ch:
		return value
	case <-time.After(patience):
		panic(fmt.Errorf("nothing came: %s", what))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// plain turns the maps that the MessagePack protocol gives into those of JSON.
func plain(value any) any {
	switch value := value.(type) {
	case map[any]any:
		object := map[string]any{}
		for key, member := range value {
			object[fmt.Sprint(key)] = plain(member)
		}
		return object
	case []any:
		list := []any{}
		for _, item := range value {
			list = append(list, plain(item))
		}
		return list
	default:
		return value
	}
}

// show writes a value in one way, whatever its types: numbers, maps and bytes differ between the protocols.
func show(value any) string {
	text, err := json.Marshal(plain(value))
	if err != nil {
		return fmt.Sprintf("%#v", value)
	}
	return string(text)
}

func equal(actual, expected any, what string) {
	if got, wanted := show(actual), show(expected); got != wanted {
		panic(fmt.Errorf("%s: got %.300s, wanted %.300s", what, got, wanted))
	}
}

func fails(p *peer, text, method string, arguments ...any) {
	value, err := p.try(method, arguments...)
	if err == nil {
		panic(fmt.Errorf("%s%v gave %v instead of an error", method, arguments, show(value)))
	}
	equal(err.Error(), text, method)
}

func eventually(condition func() bool, what string) {
	for end := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic(fmt.Errorf("never: %s", what))
		}
	}
}

// ended waits until the client has noticed the end of its connection: it is closed, or connected anew where that was
// allowed. Over server-sent events it never notices: what it reads together with the end of the response, which is the
// Close message, is dropped, and so is the end itself.
func ended(t *scene, p *peer) {
	if t.lane.sse() {
		return
	}
	eventually(func() bool {
		switch p.client.State() {
		case signalr.ClientClosed:
			return true
		case signalr.ClientConnected:
			me, err := p.try("WhoAmI")
			return err == nil && me != nil && plain(me).(map[string]any)["connectionId"] != p.id
		default:
			return false
		}
	}, "the client notices the end of its connection")
}

func departed(watcher *peer, id string) (record map[string]any) {
	eventually(func() bool {
		value := watcher.invoke("Departed", id)
		record, _ = plain(value).(map[string]any)
		return record != nil
	}, "the departure is recorded")
	return record
}

// delivered has `from` call the send and asserts, by a fence behind it, that exactly `expected` got it.
func delivered(crowd []*peer, from *peer, expected []*peer, method string, arguments ...any) {
	tag := fmt.Sprintf("%s %d", method, rand.Int63())
	from.invoke(method, append(append([]any{}, arguments...), tag)...)
	for number, p := range crowd {
		from.invoke("ToConnection", p.id, "fence "+tag)
		copies, fences := 0, 0
		for x := p.messageFrom(from.id); ; x = p.messageFrom(from.id) {
			if x == tag {
				copies++
			} else if x == "fence "+tag {
				fences++
				// Each message is handled by a goroutine of its own, so a few may still come behind the fence.
				time.AfterFunc(50*time.Millisecond, func() { p.messages <- message{from.id, "end " + tag} })
			} else if x == "end "+tag {
				break
			}
		}
		equal(fences, 1, "fences")
		wanted := 0
		for _, one := range expected {
			if one == p {
				wanted++
			}
		}
		equal(copies, wanted, fmt.Sprintf("copies of %s for peer %d", method, number))
	}
}

func token(user, role string) string {
	response, err := http.Get(address + "/token?" + url.Values{"user": {user}, "role": {role}}.Encode())
	must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(err)
	return string(text)
}

func unexpected(method, detail string) string {
	text := "An unexpected error occurred invoking '" + method + "' on the server."
	if detail != "" {
		text += " HubException: " + detail
	}
	return text
}

// ------------------------------------------------------------------------------------------------ cases

var cases = []struct {
	name string
	body func(*scene)
}{
	{"welcome comes every time", func(t *scene) {
		if *reference {
			panic(cannot("the reference sends the welcome in one frame with the handshake response, where this client loses it"))
		}
		for n := 0; n < 20; n++ {
			p := t.connect()
			id := within(p.welcomes, "welcome")
			equal(p.object("WhoAmI")["connectionId"], id, "id")
		}
	}},
	{"who am I", func(t *scene) {
		me := t.open().object("WhoAmI")
		equal(len(me["connectionId"].(string)), 22, "length of the id")
		equal(me["transport"], t.lane.transport, "transport")
		equal(me["userId"], nil, "user")
	}},
	{"echo values", func(t *scene) {
		p := t.open()
		for _, value := range []any{
			nil, true, false, 0, -1, 127, 128, 65536, int64(1) << 40, 0.5, "", "text", "quote \" backslash \\ feed \n", "ünï ☃ 😀", "<>&'+",
			[]any{}, []any{1, "two", nil, []any{3}}, map[string]any{}, map[string]any{"a": 1, "B": map[string]any{"c": []any{true, nil}}},
		} {
			equal(p.invoke("Echo", value), value, "Echo")
		}
		equal(p.invoke("aDD", -2147483648, 2147483647), -1, "Add")
		equal([]any{p.invoke("Nothing"), p.invoke("Null")}, []any{nil, nil}, "null results")
	}},
	{"error texts", func(t *scene) {
		p := t.open()
		fails(p, unexpected("Throw", "boom ☃"), "Throw", "boom ☃")
		fails(p, unexpected("Crash", ""), "Crash")
		fails(p, "Failed to invoke 'nosuch' due to an error on the server. HubException: Method does not exist.", "nosuch")
		fails(p, "Failed to invoke 'Add' due to an error on the server.", "Add", 1)
		fails(p, "Failed to invoke 'Add' due to an error on the server.", "Add", 1, "two")
		fails(p, "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.", "Counter", 1, 0)
		equal(p.invoke("Add", 1, 1), 2, "after the errors")
	}},
	{"typed object", func(t *scene) {
		full := map[string]any{
			"text": "ünï ☃", "int": -2147483648, "long": int64(1) << 40, "float": 1.5, "bool": true,
			"bytes": []byte{0, 127, 255}, "list": []int{1, -2}, "map": map[string]string{"a": "b"}, "nothing": nil,
		}
		equal(t.open().invoke("Types", full), full, "Types")
	}},
	{"order of calls", func(t *scene) {
		p := t.open()
		for n := 0; n < 50; n++ {
			// Each call is written by a goroutine of its own, so only waiting for its answer keeps an order.
			p.invoke("Order", n)
		}
		wanted := []int{}
		for n := 0; n <= 50; n++ {
			wanted = append(wanted, n)
		}
		equal(p.invoke("Order", 50), wanted, "order")
		equal(p.invoke("Slow", 100), "done", "Slow")
	}},
	{"many calls at once", func(*scene) {
		panic(cannot("this client gives two calls one id when they are made side by side"))
	}},
	{"items belong to the connection", func(t *scene) {
		a, b := t.open(), t.open()
		a.invoke("SetItem", "k", map[string]any{"deep": []any{1, "x"}})
		equal([]any{a.invoke("GetItem", "k"), b.invoke("GetItem", "k")}, []any{map[string]any{"deep": []any{1, "x"}}, nil}, "items")
	}},
	{"sends", func(t *scene) {
		a, b, c := t.open(), t.open(), t.open()
		crowd := []*peer{a, b, c}
		delivered(crowd, a, crowd, "ToAll")
		delivered(crowd, a, []*peer{b, c}, "ToOthers")
		delivered(crowd, a, []*peer{a}, "ToCaller")
		delivered(crowd, a, []*peer{b}, "ToAllExcept", []string{a.id, c.id})
		delivered(crowd, a, []*peer{b}, "ToConnection", b.id)
		delivered(crowd, b, []*peer{a, c}, "ToConnections", []string{a.id, c.id})
		delivered(crowd, b, nil, "ToUser", "nobody")
	}},
	{"groups", func(t *scene) {
		a, b, c := t.open(), t.open(), t.open()
		crowd, red, blue := []*peer{a, b, c}, "red "+a.id, "blue "+a.id
		a.invoke("Join", red)
		b.invoke("Join", red)
		b.invoke("Join", blue)
		c.invoke("Join", blue)
		delivered(crowd, c, []*peer{a, b}, "ToGroup", red)
		delivered(crowd, c, []*peer{a, b, b, c}, "ToGroups", []string{red, blue})
		delivered(crowd, c, []*peer{b}, "ToGroupExcept", red, []string{a.id})
		delivered(crowd, a, []*peer{b}, "ToOthersInGroup", red)
		b.invoke("Leave", red)
		delivered(crowd, c, []*peer{a}, "ToGroup", red)
	}},
	{"server stream", func(t *scene) {
		p := t.open()
		items, err := p.stream("Counter", 5, 10)
		equal([]any{items, err}, []any{[]int{0, 1, 2, 3, 4}, nil}, "items")
		items, err = p.stream("Counter", 0, 0)
		equal([]any{items, err}, []any{[]int{}, nil}, "items")
		items, err = p.stream("CounterThrow", 3)
		// The error may overtake items inside the client.
		equal(items, []int{0, 1, 2}[:len(items)], "items before the error")
		if err == nil || err.Error() != "An error occurred on the server while streaming results. HubException: counter failed" {
			panic(fmt.Errorf("the stream ended with %v", err))
		}
	}},
	{"a cancelled stream stops", func(*scene) { panic(cannot("this client cannot cancel a stream")) }},
	{"upload stream", func(t *scene) {
		p := t.open()
		numbers := make(chan int)
		result := p.client.PushStreams("Sum", numbers)
		for n := 0; n < 100; n++ {
			numbers <- n
		}
		close(numbers)
		sum, err := outcome(result, "Sum")
		must(err)
		equal(sum, 4950, "Sum")
		as, bs := make(chan string), make(chan string)
		result = p.client.PushStreams("Join2", as, bs)
		as <- "a0"
		bs <- "b0"
		as <- "a1"
		close(as)
		close(bs)
		joined, err := outcome(result, "Join2")
		must(err)
		equal(joined, "a0+a1|b0", "Join2")
	}},
	{"stream both ways", func(*scene) { panic(cannot("this client has no call with streams in both directions")) }},
	{"client results", func(t *scene) {
		a, b, mute := t.open(), t.open("answering"), t.open()
		equal(a.invoke("Ask", b.id, "who ☃?"), "b: who ☃?", "Ask")
		equal(b.invoke("Ask", b.id, "myself?"), "b: myself?", "Ask")
		fails(a, unexpected("Ask", "Unknown method answer"), "Ask", mute.id, "x")
		_, err := a.try("Ask", b.id, "panic")
		if err == nil || !strings.HasPrefix(err.Error(), unexpected("Ask", "no idea")) {
			panic(fmt.Errorf("a panicking handler gave %v", err))
		}
		fails(a, unexpected("Ask", ""), "Ask", "no-such-connection", "x")
		// After a panic it completes the call twice; the connection must survive that.
		equal(b.invoke("Add", 1, 1), 2, "who panicked lives")
	}},
	{"large messages", func(t *scene) {
		p := t.open()
		sizes := []int{0, 1, 125, 126, 65535, 65536, 1_000_000}
		if t.lane.sse() {
			// It takes what one read brings for whole lines, so an event must fit into one.
			sizes = []int{0, 1, 125, 126, 2000}
		}
		for _, n := range sizes {
			equal(p.invoke("Large", n), strings.Repeat("x", n), "Large")
		}
		if !t.lane.sse() {
			equal(p.invoke("Echo", strings.Repeat("y", 32_000)), strings.Repeat("y", 32_000), "Echo")
		}
	}},
	{"a message over the limit closes the connection", func(t *scene) {
		p, watcher := t.open(), t.open()
		p.client.Send("Echo", strings.Repeat("z", 40_000))
		ended(t, p)
		if text, ok := departed(watcher, p.id)["error"].(string); !ok || !strings.Contains(text, "maximum message size") {
			panic(fmt.Errorf("recorded %q", text))
		}
	}},
	{"abort", func(t *scene) {
		p, watcher := t.open(), t.open()
		p.client.Send("Abort")
		ended(t, p)
		equal(departed(watcher, p.id)["error"], nil, "recorded error")
	}},
	{"departed after a stop", func(t *scene) {
		p, watcher := t.open(), t.open()
		equal(watcher.invoke("Departed", p.id), nil, "still here")
		p.stop()
		departed(watcher, p.id)
	}},
	{"bearer token, user and role", func(t *scene) {
		me := t.open("/conformance-auth", "token="+token("ann", "boss")).object("WhoAmI")
		equal(me["userId"], "ann", "user")
		if !strings.Contains(show(me["claims"]), `"boss"`) {
			panic(fmt.Errorf("no role in %s", show(me["claims"])))
		}
	}},
	{"keep-alive holds an idle connection", func(t *scene) {
		p := t.open("/conformance-small")
		time.Sleep(5 * time.Second)
		equal(p.invoke("Add", 1, 1), 2, "Add")
	}},
}
