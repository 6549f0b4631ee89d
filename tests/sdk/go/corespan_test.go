// The official Go SDK, unchanged, in JSON and in Protobuf, against corespan on Apache Kafka.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

const wait = 20 * time.Second

var (
	run      = fmt.Sprintf("%06x", rand.Intn(1<<24))
	topic    = "trucks-" + run
	server   *node
	subjects atomic.Int64
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := createTopic(topic, 4); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		var err error
		if server, err = startNode(topic); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer server.kill()
		return m.Run()
	}())
}

// A subject of its own for every test, so that none sees another's records.
func freshSubject() string { return fmt.Sprintf("/%s/%d/speed", topic, subjects.Add(1)) }

var builds = []struct {
	name string
	make func(string, centrifuge.Config) *centrifuge.Client
}{{"JSON", centrifuge.NewJsonClient}, {"Protobuf", centrifuge.NewProtobufClient}}

func inBothBuilds(t *testing.T, body func(t *testing.T, connect func(port int) *client)) {
	for _, build := range builds {
		t.Run(build.name, func(t *testing.T) {
			body(t, func(port int) *client {
				made := build.make(endpoint(port), centrifuge.Config{MinReconnectDelay: 50 * time.Millisecond, MaxReconnectDelay: 200 * time.Millisecond})
				connected := make(chan centrifuge.ConnectedEvent, 100)
				ended := make(chan centrifuge.DisconnectedEvent, 100)
				made.OnConnected(func(event centrifuge.ConnectedEvent) { connected <- event })
				made.OnDisconnected(func(event centrifuge.DisconnectedEvent) { ended <- event })
				t.Cleanup(made.Close)
				if err := made.Connect(); err != nil {
					t.Fatal(err)
				}
				if event := next(t, connected); event.ClientID == "" {
					t.Fatal("no client id")
				}
				return &client{made, ended}
			})
		})
	}
}

type client struct {
	*centrifuge.Client
	ended chan centrifuge.DisconnectedEvent
}

func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case event := <-from:
		return event
	case <-time.After(wait):
		t.Fatalf("no %T within %s", *new(T), wait)
		panic("unreachable")
	}
}

func within(t *testing.T) context.Context {
	limit, cancel := context.WithTimeout(context.Background(), wait)
	t.Cleanup(cancel)
	return limit
}

// A subscription and what it tells.
type subscription struct {
	*centrifuge.Subscription
	subscribed   chan centrifuge.SubscribedEvent
	unsubscribed chan centrifuge.UnsubscribedEvent
	publications chan centrifuge.Publication
}

func (c *client) newSubscription(t *testing.T, subject string) *subscription {
	t.Helper()
	made, err := c.NewSubscription(subject, centrifuge.SubscriptionConfig{MinResubscribeDelay: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := &subscription{made, make(chan centrifuge.SubscribedEvent, 100), make(chan centrifuge.UnsubscribedEvent, 100), make(chan centrifuge.Publication, 100_000)}
	made.OnSubscribed(func(event centrifuge.SubscribedEvent) { s.subscribed <- event })
	made.OnUnsubscribed(func(event centrifuge.UnsubscribedEvent) { s.unsubscribed <- event })
	made.OnPublication(func(event centrifuge.PublicationEvent) { s.publications <- event.Publication })
	return s
}

func (c *client) subscribe(t *testing.T, subject string) *subscription {
	t.Helper()
	s := c.newSubscription(t, subject)
	if err := s.Subscribe(); err != nil {
		t.Fatal(err)
	}
	if event := next(t, s.subscribed); !event.Recoverable || event.StreamPosition == nil {
		t.Fatalf("%+v", event)
	}
	return s
}

func (c *client) publish(t *testing.T, subject string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := c.Publish(within(t), subject, value(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func value(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) }

// The next records are these numbers, with offsets that grow.
func (s *subscription) expect(t *testing.T, from, to int) []centrifuge.Publication {
	t.Helper()
	var got []centrifuge.Publication
	for n := from; n <= to; n++ {
		publication := next(t, s.publications)
		if string(publication.Data) != string(value(n)) {
			t.Fatalf("%s where %d was due", publication.Data, n)
		}
		if len(got) > 0 && publication.Offset <= got[len(got)-1].Offset {
			t.Fatalf("offset %d after %d", publication.Offset, got[len(got)-1].Offset)
		}
		got = append(got, publication)
	}
	return got
}

func refused(t *testing.T, err error, code uint32) {
	t.Helper()
	var reply *centrifuge.Error
	if !errors.As(err, &reply) || reply.Code != code || reply.Message == "" {
		t.Fatalf("%v (%T) where error %d was due", err, err, code)
	}
}

func TestAPublishIsAcknowledgedAndDeliveredInOrder(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		subject := freshSubject()
		reader, writer := connect(server.port), connect(server.port)
		s := reader.subscribe(t, subject)
		writer.publish(t, subject, 1, 50)
		if _, err := s.Publish(within(t), value(51)); err != nil {
			t.Fatal(err)
		}
		s.expect(t, 1, 51)
	})
}

func TestHistoryPagesFromAPositionAndBackwards(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		subject := freshSubject()
		c := connect(server.port)
		s := c.subscribe(t, subject)
		c.publish(t, subject, 1, 10)
		seen := s.expect(t, 1, 10)
		position, err := s.History(within(t), centrifuge.WithHistoryLimit(0))
		if err != nil || len(position.Publications) != 0 || position.Epoch == "" || position.Offset < seen[9].Offset {
			t.Fatalf("%+v %v", position, err)
		}
		page := func(options ...centrifuge.HistoryOption) string {
			result, err := c.History(within(t), subject, options...)
			if err != nil {
				t.Fatal(err)
			}
			var values []string
			for _, publication := range result.Publications {
				values = append(values, string(publication.Data))
			}
			return strings.Join(values, " ")
		}
		since := centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: seen[3].Offset, Epoch: position.Epoch})
		if got := page(centrifuge.WithHistoryLimit(3), since); got != `{"n":5} {"n":6} {"n":7}` {
			t.Fatal(got)
		}
		if got := page(centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true)); got != `{"n":10} {"n":9}` {
			t.Fatal(got)
		}
		_, err = s.History(within(t), centrifuge.WithHistoryLimit(3), centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 1, Epoch: "of-another-log"}))
		refused(t, err, 112)
	})
}

func TestNothingIsLostOrDoubledWhenTheSocketIsCut(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		network := startProxy(t, server.port)
		writer, reader := connect(server.port), connect(network.port())
		subject, quiet := freshSubject(), freshSubject()
		s, other := reader.subscribe(t, subject), reader.subscribe(t, quiet)
		for round := range 4 {
			first := round*30 + 1
			writer.publish(t, subject, first, first+9)
			network.pull()
			// Records that nobody hears at the moment they are made.
			writer.publish(t, subject, first+10, first+19)
			network.plug()
			for _, back := range []*subscription{s, other} {
				if event := next(t, back.subscribed); !event.WasRecovering || !event.Recovered {
					t.Fatalf("%+v", event)
				}
			}
			writer.publish(t, subject, first+20, first+29)
			s.expect(t, first, first+29)
		}
		writer.publish(t, quiet, 1, 1)
		other.expect(t, 1, 1)
		if len(reader.ended) > 0 || len(s.unsubscribed) > 0 {
			t.Fatalf("%+v", next(t, reader.ended))
		}
		if network.accepted < 5 {
			t.Fatalf("%d connections", network.accepted)
		}
	})
}

func TestAThousandSubscriptionsComeBackAndRecover(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		network := startProxy(t, server.port)
		writer, reader := connect(server.port), connect(network.port())
		all := make([]*subscription, 1000)
		for index := range all {
			all[index] = reader.newSubscription(t, freshSubject())
			if err := all[index].Subscribe(); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range all {
			next(t, s.subscribed)
		}
		network.pull()
		for index := 0; index < len(all); index += 100 {
			writer.publish(t, all[index].Channel, 1, 2)
		}
		network.plug()
		for _, s := range all {
			if event := next(t, s.subscribed); !event.Recovered {
				t.Fatalf("%s: %+v", s.Channel, event)
			}
		}
		for index, s := range all {
			first := 1
			if index%100 == 0 {
				s.expect(t, 1, 2)
				first = 3
			}
			if index%100 < 2 {
				writer.publish(t, s.Channel, first, first)
				s.expect(t, first, first)
			}
		}
	})
}

// Before the first answer this SDK cannot: it sends no second subscribe while the first is open, and takes the first's answer for the subscription that
// its own unsubscribe has ended (0.12.1, "avoid subscribe since inflight").
func TestLeavingAndComingBackAtOnceLosesAndDoublesNothing(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		writer, reader, witness := connect(server.port), connect(server.port), connect(server.port)
		subject := freshSubject()
		told := witness.subscribe(t, subject)
		s := reader.newSubscription(t, subject)
		limit, stop := context.WithCancel(within(t))
		defer stop()
		published := make(chan int, 1)
		go func() {
			n := 0
			for limit.Err() == nil {
				if _, err := writer.Publish(context.Background(), subject, value(n+1)); err != nil {
					break
				}
				n++
			}
			published <- n
		}()
		if err := s.Subscribe(); err != nil {
			t.Fatal(err)
		}
		position := next(t, s.subscribed).StreamPosition.Offset
		var got []uint64
		for range 5 {
			for range 10 {
				got = append(got, next(t, s.publications).Offset)
			}
			if err := errors.Join(s.Unsubscribe(), s.Subscribe()); err != nil {
				t.Fatal(err)
			}
			if event := next(t, s.subscribed); !event.Recovered {
				t.Fatalf("%+v", event)
			}
		}
		stop()
		var wanted []uint64
		for _, publication := range told.expect(t, 1, next(t, published)) {
			if publication.Offset > position {
				wanted = append(wanted, publication.Offset)
			}
		}
		for got[len(got)-1] < wanted[len(wanted)-1] {
			got = append(got, next(t, s.publications).Offset)
		}
		if !slices.Equal(got, wanted) {
			t.Fatalf("after position %d: %v where %v was due", position, got, wanted)
		}
	})
}

func TestUnsubscribeEndsTheStreamAndALaterSubscribeGoesOn(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		subject := freshSubject()
		c, writer := connect(server.port), connect(server.port)
		s := c.subscribe(t, subject)
		writer.publish(t, subject, 1, 1)
		s.expect(t, 1, 1)
		if err := s.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		next(t, s.unsubscribed)
		// The answer to a later command says that the unsubscribe has been done.
		if _, err := c.History(within(t), subject); err != nil {
			t.Fatal(err)
		}
		writer.publish(t, subject, 2, 2)
		if err := s.Subscribe(); err != nil {
			t.Fatal(err)
		}
		next(t, s.subscribed)
		writer.publish(t, subject, 3, 3)
		s.expect(t, 2, 3)
	})
}

func TestErrorsCarryTheirCodes(t *testing.T) {
	inBothBuilds(t, func(t *testing.T, connect func(int) *client) {
		c := connect(server.port)
		for _, bad := range []struct {
			subject string
			code    uint32
		}{{"/nowhere-" + run + "/1", 102}, {"no-slash", 107}, {"/" + topic + "//1", 107}, {"/" + topic + "/", 107}} {
			s := c.newSubscription(t, bad.subject)
			if err := s.Subscribe(); err != nil {
				t.Fatal(err)
			}
			if event := next(t, s.unsubscribed); event.Code != bad.code {
				t.Fatalf("%s: %+v", bad.subject, event)
			}
			_, err := c.Publish(within(t), bad.subject, value(1))
			refused(t, err, bad.code)
		}
		subject := freshSubject()
		_, err := c.RPC(within(t), "no.such.method", value(1))
		refused(t, err, 104)
		_, err = c.Presence(within(t), subject)
		refused(t, err, 108)
		_, err = c.Publish(within(t), subject, fmt.Appendf(nil, "%q", strings.Repeat("x", 1_500_000)))
		refused(t, err, 106)
		// The connection is none the worse for it.
		c.publish(t, subject, 1, 1)
		if len(c.ended) > 0 {
			t.Fatalf("%+v", next(t, c.ended))
		}
	})
}
