package engine

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"ds4/runtime/gguf"
	"ds4/runtime/model"
)

// benchTokens is an endless repetition of a golden prompt's tokens.
func benchTokens(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(8 + (i*2654435761>>7)%8000)
	}
	return out
}

// envModel names a GGUF file to measure in place of the embedded model.
const envModel = "DS4_BENCH_MODEL"

func benchModel(b *testing.B) *model.Model {
	path := os.Getenv(envModel)
	if path == "" {
		return tinyModel(b)
	}
	f, err := gguf.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return loadModel(b, f)
}

// BenchmarkPrefill times whole prompts through fresh sessions.
func BenchmarkPrefill(b *testing.B) {
	for _, n := range []int{512, 2048} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := newEngine(b, benchModel(b), 0, Options{ContextTokens: 4096, Numerics: model.Production, Pack: true, PackK: true})
			s := newSession(b, e)
			tokens := benchTokens(n)
			for b.Loop() {
				s.Reset()
				prefill(b, s, tokens, e.ChunkTokens())
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkPrefillAtDepth times the chunk that follows a prompt of the given depth:
// its cost must grow with the window and the top-k, not with the depth.
func BenchmarkPrefillAtDepth(b *testing.B) {
	for _, depth := range []int{2048, 32768} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			e := newEngine(b, benchModel(b), 0, Options{ContextTokens: 1 << 16, Numerics: model.Production, Pack: true, PackK: true})
			s := newSession(b, e)
			tokens := benchTokens(depth + e.ChunkTokens())
			prefill(b, s, tokens[:depth], e.ChunkTokens())
			point := s.Keep()
			for b.Loop() {
				prefill(b, s, tokens[depth:], e.ChunkTokens())
				if err := s.Rewind(point); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(e.ChunkTokens()*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkDecode times single tokens after a prompt of the given depth.
func BenchmarkDecode(b *testing.B) {
	for _, depth := range []int{1, 2048} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			e := newEngine(b, benchModel(b), 0, Options{ContextTokens: 1 << 16, Numerics: model.Production, Pack: true, PackK: true})
			s := newSession(b, e)
			prefill(b, s, benchTokens(depth), e.ChunkTokens())
			point := s.Keep()
			batch := []Sequence{{Session: s, Tokens: []int32{17}}}
			b.ReportAllocs()
			for b.Loop() {
				if s.Len() >= depth+64 {
					if err := s.Rewind(point); err != nil {
						b.Fatal(err)
					}
				}
				if err := e.Forward(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkNeighbour times tokens alone and beside a process that keeps one
// core busy, in turns of half a second.
func BenchmarkNeighbour(b *testing.B) {
	e := newEngine(b, benchModel(b), 0, Options{ContextTokens: 1 << 14, Numerics: model.Production, Pack: true, PackK: true})
	s := newSession(b, e)
	prefill(b, s, benchTokens(1), e.ChunkTokens())
	point := s.Keep()
	batch := []Sequence{{Session: s, Tokens: []int32{17}}}
	decode := func() (tps float64) {
		const turn = 500 * time.Millisecond
		n, start := 0, time.Now()
		for ; time.Since(start) < turn; n++ {
			if s.Len() >= 64 {
				if err := s.Rewind(point); err != nil {
					b.Fatal(err)
				}
			}
			if err := e.Forward(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		return float64(n) / time.Since(start).Seconds()
	}
	var alone, beside []float64
	for b.Loop() {
		alone = append(alone, decode())
		busy := exec.CommandContext(b.Context(), "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			b.Fatal(err)
		}
		beside = append(beside, decode())
		_ = busy.Process.Kill()
		_ = busy.Wait() // killed
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(alone), "alone-tokens/s")
	b.ReportMetric(median(beside), "beside-tokens/s")
	b.ReportMetric(median(beside)/median(alone), "ratio")
}

// BenchmarkDecodeBatch times one token of each of several sessions: all in one
// pass, and in passes of their own, in turn so that both see the same machine.
func BenchmarkDecodeBatch(b *testing.B) {
	const depth, most = 256, 64
	for _, n := range []int{2, 4, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := newEngine(b, benchModel(b), 0, Options{ContextTokens: 4096, Numerics: model.Production, Pack: true})
			var batch []Sequence
			var points []*Point
			for i := range n {
				s := newSession(b, e)
				prefill(b, s, benchTokens(depth + i)[i:], e.ChunkTokens())
				batch = append(batch, Sequence{Session: s, Tokens: []int32{int32(17 + i)}})
				points = append(points, s.Keep())
			}
			forward := func(batch []Sequence) time.Duration {
				start := time.Now()
				if err := e.Forward(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			var together, apart time.Duration
			for b.Loop() {
				if batch[0].Session.Len() >= depth+most {
					for i, q := range batch {
						if err := q.Session.Rewind(points[i]); err != nil {
							b.Fatal(err)
						}
					}
				}
				together += forward(batch)
				for i := range batch {
					apart += forward(batch[i : i+1])
				}
			}
			b.ReportMetric(float64(n*b.N)/together.Seconds(), "tokens/s")
			b.ReportMetric(apart.Seconds()/together.Seconds(), "times")
		})
	}
}
