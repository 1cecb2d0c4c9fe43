package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"
)

func TestExp(t *testing.T) {
	rng := newRand(21, 22)
	for range 100_000 {
		x := float32(rng.Float64()*172 - 85)
		want := math.Exp(float64(x))
		if got := float64(exp(x)); math.Abs(got-want) > 1.5e-7*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	if v := exp(float32(math.NaN())); v == v {
		t.Errorf("exp(NaN) = %v", v)
	}
	if lo, hi := exp(-1e30), exp(1e30); lo != exp(-86) || hi != exp(88) {
		t.Errorf("limits: %v, %v", lo, hi)
	}
}

// attendCase is random input of the attention kernels.
type attendCase struct {
	n, width int
	q, kv    []float32
	halves   []uint16                   // kv as F16, which loses nothing of it
	rows     [rowForms][]unsafe.Pointer // n, and one more if n is odd
	sinks    [Heads]float32
}

func newAttendCase(rng *rand.Rand, n, width int) *attendCase {
	c := &attendCase{n: n, width: width, q: normals(rng, Heads*width), kv: normals(rng, (n+3)*width)}
	Scalar.RoundF16(c.kv)
	c.halves = make([]uint16, len(c.kv))
	Scalar.NarrowF16(c.halves, c.kv)
	for range n + n%2 {
		at := rng.IntN(n+3) * width
		c.rows[RowsF32] = append(c.rows[RowsF32], unsafe.Pointer(&c.kv[at]))
		c.rows[RowsF16] = append(c.rows[RowsF16], unsafe.Pointer(&c.halves[at]))
	}
	copy(c.sinks[:], normals(rng, Heads))
	return c
}

// run is the whole attention of one tile of heads.
func (c *attendCase) run(s *Set, form Rows) (scores, weights, inv, out []float32) {
	rows := c.rows[form]
	scores = make([]float32, len(rows)*Heads)
	s.AttendScores(scores, c.q, form, rows, c.width, 0.3)
	weights, inv, out = slices.Clone(scores), make([]float32, Heads), make([]float32, Heads*c.width)
	s.AttendSoftmax(weights, &c.sinks, (*[Heads]float32)(inv), c.n)
	// In two calls, as for two tables of rows.
	one, n := [Heads]float32{1, 1, 1, 1, 1, 1, 1, 1}, c.n/3
	s.AttendSum(out, weights[:n*Heads], form, rows[:n], &one, c.width)
	s.AttendSum(out, weights[n*Heads:], form, rows[n:c.n], (*[Heads]float32)(inv), c.width)
	return
}

// reference is the output in float64.
func (c *attendCase) reference(h int) []float64 {
	out, den := make([]float64, c.width), math.Exp(float64(c.sinks[h]))
	for _, p := range c.rows[RowsF32][:c.n] {
		row, s := floats(p, c.width), 0.
		for d, v := range row {
			s += float64(v) * float64(c.q[h*c.width+d])
		}
		w := math.Exp(0.3 * s)
		den += w
		for d, v := range row {
			out[d] += w * float64(v)
		}
	}
	for d := range out {
		out[d] /= den
	}
	return out
}

func TestAttend(t *testing.T) {
	rng := newRand(23, 24)
	for _, n := range []int{1, 2, 3, 8, 61} {
		for _, width := range []int{16, 48, 128, 192, 20} {
			c := newAttendCase(rng, n, width)
			scores, weights, inv, out := c.run(&Scalar, RowsF32)
			for h := range Heads {
				for d, want := range c.reference(h) {
					if got := float64(out[h*width+d]); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
						t.Fatalf("%d rows of %d: head %d value %d is %v, want %v", n, width, h, d, got, want)
					}
				}
			}
			eachSet(t, func(t *testing.T, s *Set) {
				for form := range Rows(rowForms) {
					scores2, weights2, inv2, out2 := c.run(s, form)
					sameBits(t, "scores", scores2, scores)
					sameBits(t, "weights", weights2, weights)
					sameBits(t, "inverse", inv2, inv)
					sameBits(t, "output", out2, out)
				}
			})
		}
	}
}

// BenchmarkAttend times a tile of heads over as many rows as fit into a cache of
// the second level, or do not.
func BenchmarkAttend(b *testing.B) {
	for _, width := range []int{192, 512} {
		for _, n := range []int{128, 640, 16384} {
			c := newAttendCase(newRand(27, 28), n, width)
			for form, name := range [rowForms]string{"f32", "f16"} {
				b.Run(fmt.Sprintf("%d rows of %d/%s", n, width, name), func(b *testing.B) {
					s := Available()[0]
					if name := os.Getenv(EnvSet); name != "" {
						s, _ = Select()
					}
					scores, out := make([]float32, len(c.rows[form])*Heads), make([]float32, Heads*width)
					var inv [Heads]float32
					for b.Loop() {
						s.AttendScores(scores, c.q, Rows(form), c.rows[form], width, 0.3)
						s.AttendSoftmax(scores, &c.sinks, &inv, n)
						s.AttendSum(out, scores, Rows(form), c.rows[form][:n], &inv, width)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
				})
			}
		}
	}
}

func TestIndexSum(t *testing.T) {
	rng := newRand(25, 26)
	for _, n := range []int{4, 8, 60} {
		sc, base := normals(rng, n*Heads), normals(rng, n)
		var w [Heads]float32
		copy(w[:], normals(rng, Heads))
		want := slices.Clone(base)
		Scalar.IndexSum(want, sc, &w)
		for j := range n {
			sum := float64(base[j])
			for h := range Heads {
				sum += float64(w[h]) * max(float64(sc[j*Heads+h]), 0)
			}
			if math.Abs(float64(want[j])-sum) > 1e-5 {
				t.Fatalf("row %d: %v, want %v", j, want[j], sum)
			}
		}
		eachSet(t, func(t *testing.T, s *Set) {
			got := slices.Clone(base)
			s.IndexSum(got, sc, &w)
			sameBits(t, "sums", got, want)
		})
	}
}
