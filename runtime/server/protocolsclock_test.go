package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/scheduler"
)

// TestProtocolKeepalive: what each protocol sends while nothing is said, before the
// first words and after them.
func TestProtocolKeepalive(t *testing.T) {
	slow := func(ctx context.Context, _ *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event)
		go func() {
			defer close(ch)
			for _, event := range []scheduler.Event{text("a"), done("stop")} {
				time.Sleep(11 * time.Second)
				select {
				case ch <- event:
				case <-ctx.Done():
					return
				}
			}
		}()
		return ch, nil
	}
	for _, tt := range []struct {
		path, prompt, mark string
		want               []string
	}{
		{"/v1/messages", hiTurn, "event: ", []string{
			"ping", "ping", "message_start", "content_block_start", "content_block_delta", "ping", "ping",
			"content_block_stop", "message_delta", "message_stop",
		}},
		{"/v1/responses", hiInput, `data: {"type":"`, []string{
			"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
			"response.output_text.delta", "response.in_progress", "response.in_progress", "response.output_text.done",
			"response.content_part.done", "response.output_item.done", "response.completed",
		}},
		{"/v1/completions", `"prompt":"hi"`, ": ", []string{"decode", "decode", "decode", "decode"}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			inBubble(t, &fakeScheduler{submit: slow}, func(t *testing.T, dial func() net.Conn) {
				conn := dial()
				defer conn.Close()
				body := `{"stream":true,` + tt.prompt + `}`
				go io.WriteString(conn, "POST "+tt.path+" HTTP/1.1\r\nHost: ds4\r\nConnection: close\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n"+body)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				lines := bufio.NewScanner(resp.Body)
				for lines.Scan() {
					if rest, ok := strings.CutPrefix(lines.Text(), tt.mark); ok {
						name, _, _ := strings.Cut(rest, `"`)
						got = append(got, name)
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
