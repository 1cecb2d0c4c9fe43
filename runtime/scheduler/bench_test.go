package scheduler

import (
	"fmt"
	"testing"
	"time"

	"ds4/runtime/chat"
)

// BenchmarkStreams times greedy answers of the embedded model, sampled by several
// requests at once and by one after the other, in turn so that both see the same
// machine. Prompts are in memory, so it is decode that is compared.
func BenchmarkStreams(b *testing.B) {
	const tokens = 64
	for _, n := range []int{2, 4, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, rigOptions{sense: true, pack: true, config: func(c *Config) { c.Sessions = n }})
			var requests []*Request
			for i := range n {
				q := ask(chat.None, words(i, 100))
				q.MaxTokens, q.IgnoreEOS = tokens, true
				requests = append(requests, q)
				r.good(q)
			}
			var together, apart time.Duration
			for b.Loop() {
				start := time.Now()
				var streams []<-chan Event
				for _, q := range requests {
					streams = append(streams, r.start(b.Context(), q))
				}
				for _, ch := range streams {
					collect(ch)
				}
				together += time.Since(start)
				start = time.Now()
				for _, q := range requests {
					r.good(q)
				}
				apart += time.Since(start)
			}
			b.ReportMetric(float64(n*tokens*b.N)/together.Seconds(), "tokens/s")
			b.ReportMetric(apart.Seconds()/together.Seconds(), "times")
		})
	}
}
