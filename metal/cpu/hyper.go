package cpu

import (
	"math"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

// Hyper-connections: several residual streams, mixed before and after each
// sublayer by small matrices that depend on the token. The mixing matrix is made
// doubly stochastic by Sinkhorn iterations. Models have four streams, which have
// kernels of their own.

// maxStreams bounds the number of streams that the general form takes.
const maxStreams = 16

// mixStreams writes x = sum over h of pre[h] * stream h.
func mixStreams(set *kernels.Set, x, streams, pre []float32) {
	clear(x)
	for h, p := range pre {
		set.Axpy(x, row(streams, h, len(x)), p)
	}
}

// sinkhorn makes c (n x n) doubly stochastic: softmax over rows, then columns
// and rows in turn, columns last.
func sinkhorn(c []float32, n, iterations int, eps float32) {
	for r := range n {
		v := row(c, r, n)
		top := v[0]
		for _, x := range v {
			top = max(top, x)
		}
		var sum float32
		for j, x := range v {
			v[j] = float32(math.Exp(float64(x - top)))
			sum += v[j]
		}
		for j := range v {
			v[j] = v[j]/sum + eps
		}
	}
	normaliseColumns(c, n, eps)
	for range iterations - 1 {
		for r := range n {
			v := row(c, r, n)
			var sum float32
			for _, x := range v {
				sum += x
			}
			sum += eps
			for j := range v {
				v[j] /= sum
			}
		}
		normaliseColumns(c, n, eps)
	}
}

func normaliseColumns(c []float32, n int, eps float32) {
	for j := range n {
		var sum float32
		for r := range n {
			sum += c[r*n+j]
		}
		sum += eps
		for r := range n {
			c[r*n+j] /= sum
		}
	}
}

// hyperMix: streams, mix, base, scale, norm -> x, post, comb.
func hyperMix(g *Group) {
	a := argsOf[metal.MixArgs](g)
	dim, hc := int(a.Dim), int(a.HC)
	streams := row(g.f32(0), g.X, hc*dim)
	m := row(g.f32(1), g.X, 2*hc+hc*hc)
	base, scale := g.f32(2), g.f32(3)
	x, post, comb := row(g.f32(5), g.X, dim), row(g.f32(6), g.X, hc), row(g.f32(7), g.X, hc*hc)
	set := g.worker.set
	// The matrix was applied to the raw streams: their norm is a common factor.
	inv := set.InverseRMS(streams, a.NormEps)
	if hc == 4 {
		k := &g.worker.gates
		k.GateParams = kernels.GateParams{Inverse: inv, Scale: [3]float32(scale), Eps: a.HCEps}
		set.HyperGates(k, (*[24]float32)(m), (*[24]float32)(base), int(a.Iterations))
		set.Mix(x, streams, &k.Pre)
		copy(post, k.Post[:])
		copy(comb, k.Comb[:])
	} else {
		var buf [maxStreams]float32
		pre := buf[:hc]
		for h := range hc {
			pre[h] = sigmoid(mul(mul(m[h], inv), scale[0])+base[h]) + a.HCEps
			post[h] = 2 * sigmoid(mul(mul(m[hc+h], inv), scale[1])+base[hc+h])
		}
		for i := range comb {
			comb[i] = mul(mul(m[2*hc+i], inv), scale[2]) + base[2*hc+i]
		}
		sinkhorn(comb, hc, int(a.Iterations), a.HCEps)
		mixStreams(set, x, streams, pre)
	}
	set.Normalise(x, g.f32(4)[:dim], a.NormEps)
}

// hyperHead: streams, mix, base, scale, norm -> x.
func hyperHead(g *Group) {
	a := argsOf[metal.MixArgs](g)
	dim, hc := int(a.Dim), int(a.HC)
	streams := row(g.f32(0), g.X, hc*dim)
	m := row(g.f32(1), g.X, hc)
	base, scale := g.f32(2), g.f32(3)
	set := g.worker.set
	inv := set.InverseRMS(streams, a.NormEps)
	var buf [maxStreams]float32
	pre := buf[:hc]
	for h := range hc {
		pre[h] = sigmoid(mul(mul(m[h], inv), scale[0])+base[h]) + a.HCEps
	}
	x := row(g.f32(5), g.X, dim)
	mixStreams(set, x, streams, pre)
	set.Normalise(x, g.f32(4)[:dim], a.NormEps)
}

// hyperApply: y, post, comb -> streams in place:
// S'[b] = post[b]*y + sum over a of comb[a][b]*S[a].
func hyperApply(g *Group) {
	a := argsOf[metal.MixArgs](g)
	dim, hc := int(a.Dim), int(a.HC)
	y := row(g.f32(0), g.X, dim)
	post, comb := row(g.f32(1), g.X, hc), row(g.f32(2), g.X, hc*hc)
	s := row(g.f32(3), g.X, hc*dim)
	if hc == 4 {
		g.worker.set.Apply(s, y, (*[4]float32)(post), (*[16]float32)(comb))
		return
	}
	var in [maxStreams]float32
	for d, v := range y {
		for h := range hc {
			in[h] = s[h*dim+d]
		}
		for b := range hc {
			sum := mul(post[b], v)
			for h := range hc {
				sum += mul(comb[h*hc+b], in[h])
			}
			s[b*dim+d] = sum
		}
	}
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
