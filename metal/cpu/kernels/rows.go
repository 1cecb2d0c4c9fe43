package kernels

import (
	"math"
	"unsafe"
)

// InverseRMS is 1/sqrt(mean(x^2) + eps).
func (s *Set) InverseRMS(x []float32, eps float32) float32 {
	return s.whole(len(x)).rowRMS(&x[0], len(x), eps)
}

// Normalise multiplies x with its InverseRMS and with weight, which may be nil.
func (s *Set) Normalise(x, weight []float32, eps float32) {
	var w *float32
	if weight != nil {
		w = &weight[:len(x)][0]
	}
	s.whole(len(x)).rowNorm(&x[0], w, len(x), eps)
}

// SwiGLU is gate = silu(min(gate, clamp)) * up, with up between -clamp and clamp.
func (s *Set) SwiGLU(gate, up []float32, clamp float32) {
	n := len(gate) &^ (rowLanes - 1)
	_ = up[:len(gate)]
	if n > 0 {
		s.swiglu(&gate[0], &up[0], n, clamp)
	}
	if n < len(gate) {
		swiglu(&gate[n], &up[n], len(gate)-n, clamp)
	}
}

// Axpy is y += w*x.
func (s *Set) Axpy(y, x []float32, w float32) {
	_ = x[len(y)-1]
	s.whole(len(y)).axpy(&y[0], &x[0], len(y), w)
}

// Rotate turns the last len(table) values of x, pair by pair, by the angles of
// table (cosine, sine), or backwards.
func (s *Set) Rotate(x, table []float32, inverse bool) {
	n := len(table)
	if n == 0 {
		return
	}
	sign := float32(1)
	if inverse {
		sign = -1
	}
	s.whole(n).rotate(&x[len(x)-n:][0], &table[0], n, sign)
}

// Mix is x = the sum of four streams, len(x) values each, weighted with pre.
func (s *Set) Mix(x, streams []float32, pre *[4]float32) {
	_ = streams[4*len(x)-1]
	s.whole(len(x)).mix4(&x[0], &streams[0], &pre[0], len(x))
}

// Apply is S[b] = post[b]*y + the sum over a of comb[a][b]*S[a], for four streams S.
func (s *Set) Apply(streams, y []float32, post *[4]float32, comb *[16]float32) {
	_ = streams[4*len(y)-1]
	s.whole(len(y)).apply4(&streams[0], &y[0], &post[0], &comb[0], len(y))
}

// Gates are the weights of four streams for one token, and what they depend on.
type Gates struct {
	Pre, Post [4]float32
	Comb      [16]float32
	GateParams
}

// GateParams steer HyperGates.
type GateParams struct {
	Inverse float32 // RMS of the streams, a factor of the mix
	Scale   [3]float32
	Eps     float32
}

// HyperGates computes gates, whose parameters are set, from the mix of a token: sigmoids for Pre and Post,
// and a matrix made doubly stochastic for Comb: a softmax over rows, then columns
// and rows in turn, columns last.
func (s *Set) HyperGates(dst *Gates, mix, base *[24]float32, iterations int) {
	s.hyperGates(&dst.Pre[0], &mix[0], &base[0], &dst.Inverse, iterations)
}

// Pool is z = the sum of entries of kv weighted, channel by channel, with a
// softmax over the entries' gates. kv and gates are [entries][len(z)].
func (s *Set) Pool(z, kv, gates []float32, entries int) {
	n := entries * len(z)
	_, _ = kv[n-1], gates[n-1]
	s.whole(len(z)).pool(&z[0], &kv[0], &gates[0], entries, len(z))
}

func rowRMS(x *float32, n int, eps float32) float32 {
	var acc [rowLanes]float32
	for i, v := range unsafe.Slice(x, n) {
		l := i % rowLanes
		acc[l] = fma(v, v, acc[l])
	}
	mean := fold(acc[:]) / float32(n)
	return 1 / float32(math.Sqrt(float64(mean+eps)))
}

func rowNorm(x, w *float32, n int, eps float32) {
	inv := rowRMS(x, n, eps)
	row := unsafe.Slice(x, n)
	for i := range row {
		row[i] = mul(row[i], inv)
	}
	if w != nil {
		for i, v := range unsafe.Slice(w, n) {
			row[i] *= v
		}
	}
}

func swiglu(gate, up *float32, n int, clamp float32) {
	g, u := unsafe.Slice(gate, n), unsafe.Slice(up, n)
	for i, v := range g {
		v = min(v, clamp)
		g[i] = mul(v/(1+exp(-v)), min(max(u[i], -clamp), clamp))
	}
}

func axpy(y, x *float32, n int, w float32) {
	fmaRow(unsafe.Slice(y, n), unsafe.Slice(x, n), w)
}

func rotate(x, table *float32, n int, sign float32) {
	v, t := unsafe.Slice(x, n), unsafe.Slice(table, n)
	for i := 0; i+1 < n; i += 2 {
		cos, sin := t[i], t[i+1]*sign
		a, b := v[i], v[i+1]
		v[i] = fma(a, cos, -mul(b, sin))
		v[i+1] = fma(b, cos, mul(a, sin))
	}
}

func mix4(x, streams, pre *float32, n int) {
	out, s, p := unsafe.Slice(x, n), unsafe.Slice(streams, 4*n), unsafe.Slice(pre, 4)
	for d := range out {
		v := mul(p[0], s[d])
		for h := 1; h < 4; h++ {
			v = fma(s[h*n+d], p[h], v)
		}
		out[d] = v
	}
}

func apply4(streams, y, post, comb *float32, n int) {
	s, p, c := unsafe.Slice(streams, 4*n), unsafe.Slice(post, 4), unsafe.Slice(comb, 16)
	for d, v := range unsafe.Slice(y, n) {
		in := [4]float32{s[d], s[n+d], s[2*n+d], s[3*n+d]}
		for b := range 4 {
			sum := mul(p[b], v)
			for a, x := range in {
				sum = fma(x, c[4*a+b], sum)
			}
			s[b*n+d] = sum
		}
	}
}

func hyperGates(dst, mix, base, p *float32, iterations int) {
	g, m, b := (*Gates)(unsafe.Pointer(dst)), unsafe.Slice(mix, 24), unsafe.Slice(base, 24)
	par := (*GateParams)(unsafe.Pointer(p))
	for h := range 4 {
		g.Pre[h] = sigmoid(fma(mul(m[h], par.Inverse), par.Scale[0], b[h])) + par.Eps
		g.Post[h] = 2 * sigmoid(fma(mul(m[4+h], par.Inverse), par.Scale[1], b[4+h]))
	}
	c := &g.Comb
	for i := range c {
		c[i] = fma(mul(m[8+i], par.Inverse), par.Scale[2], b[8+i])
	}
	for r := 0; r < 16; r += 4 {
		top := max(c[r], c[r+1], c[r+2], c[r+3])
		for j := range 4 {
			c[r+j] = exp(c[r+j] - top)
		}
	}
	divide4(c, 1, 4, 0, par.Eps)
	divide4(c, 4, 1, par.Eps, 0)
	for range iterations - 1 {
		divide4(c, 1, 4, par.Eps, 0)
		divide4(c, 4, 1, par.Eps, 0)
	}
}

// divide4 divides the rows (step 1, next 4) or columns (4, 1) of c by their sums.
func divide4(c *[16]float32, step, next int, eps, add float32) {
	for i := range 4 {
		v := c[i*next:]
		sum := (v[0] + v[2*step]) + (v[step] + v[3*step]) + eps
		for j := range 4 {
			v[j*step] = v[j*step]/sum + add
		}
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

func pool(z, kv, gate *float32, entries, width int) {
	out, values, gates := unsafe.Slice(z, width), unsafe.Slice(kv, entries*width), unsafe.Slice(gate, entries*width)
	for j := range out {
		top := gates[j]
		for e := 1; e < entries; e++ {
			top = max(top, gates[e*width+j])
		}
		var den, sum float32
		for e := range entries {
			p := exp(gates[e*width+j] - top)
			den += p
			sum = fma(p, values[e*width+j], sum)
		}
		out[j] = sum / den
	}
}
