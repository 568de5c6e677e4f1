// Collector is the OTLP receiver of OpenTelemetry's collector, on a port that
// it picks: its first line says which. Every span that arrives is a line of
// JSON. It ends when its standard input closes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

type event struct {
	Name       string         `json:"name"`
	Time       int64          `json:"time"`
	Attributes map[string]any `json:"attributes"`
}

type span struct {
	Trace      string         `json:"trace"`
	Span       string         `json:"span"`
	Parent     string         `json:"parent"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Status     string         `json:"status"`
	Start      int64          `json:"start"`
	End        int64          `json:"end"`
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
	Events     []event        `json:"events"`
}

func main() {
	out := json.NewEncoder(os.Stdout)
	next, err := consumer.NewTraces(func(_ context.Context, traces ptrace.Traces) error {
		for _, resource := range traces.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, found := range scope.Spans().All() {
					if err := out.Encode(told(resource.Resource().Attributes().AsRaw(), found)); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	check(err)
	endpoint := start(next)
	fmt.Println(endpoint)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// start tries ports until one is still free when the receiver takes it.
func start(next consumer.Traces) string {
	factory := otlpreceiver.NewFactory()
	for {
		config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
		endpoint := free()
		http := config.Protocols.HTTP.GetOrInsertDefault()
		http.ServerConfig.NetAddr.Endpoint = endpoint
		config.Protocols.GRPC = configoptional.None[configgrpc.ServerConfig]()
		settings := receivertest.NewNopSettings(factory.Type())
		receiver, err := factory.CreateTraces(context.Background(), settings, config, next)
		check(err)
		if receiver.Start(context.Background(), componenttest.NewNopHost()) == nil {
			return endpoint
		}
	}
}

func free() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	return listener.Addr().String()
}

func told(resource map[string]any, found ptrace.Span) span {
	events := []event{}
	for _, one := range found.Events().All() {
		events = append(events, event{one.Name(), int64(one.Timestamp()), one.Attributes().AsRaw()})
	}
	return span{
		Trace:      found.TraceID().String(),
		Span:       found.SpanID().String(),
		Parent:     found.ParentSpanID().String(),
		Name:       found.Name(),
		Kind:       found.Kind().String(),
		Status:     found.Status().Code().String(),
		Start:      int64(found.StartTimestamp()),
		End:        int64(found.EndTimestamp()),
		Resource:   resource,
		Attributes: found.Attributes().AsRaw(),
		Events:     events,
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
