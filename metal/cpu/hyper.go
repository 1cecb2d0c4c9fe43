package cpu

import (
	"math"

	"ds4/metal"
)

// Hyper-connections: several residual streams, mixed before and after each
// sublayer by small matrices that depend on the token. The mixing matrix is made
// doubly stochastic by Sinkhorn iterations.

// mixStreams writes x = sum over h of pre[h] * stream h.
func mixStreams(x, streams, pre []float32) {
	n := len(x)
	s := streams[:n]
	p := pre[0]
	for d := range x {
		x[d] = mul(p, s[d])
	}
	for h := 1; h < len(pre); h++ {
		s, p = streams[h*n:(h+1)*n], pre[h]
		for d := range x {
			x[d] += mul(p, s[d])
		}
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

	// The matrix was applied to the raw streams: their norm is a common factor.
	inv := inverseRMS(streams, a.NormEps)
	var buf [16]float32
	pre := buf[:hc]
	for h := range hc {
		pre[h] = sigmoid(mul(mul(m[h], inv), scale[0])+base[h]) + a.HCEps
		post[h] = 2 * sigmoid(mul(mul(m[hc+h], inv), scale[1])+base[hc+h])
	}
	for i := range comb {
		comb[i] = mul(mul(m[2*hc+i], inv), scale[2]) + base[2*hc+i]
	}
	sinkhorn(comb, hc, int(a.Iterations), a.HCEps)
	mixStreams(x, streams, pre)
	rmsNormRow(x, g.f32(4)[:dim], a.NormEps)
}

// hyperHead: streams, mix, base, scale, norm -> x.
func hyperHead(g *Group) {
	a := argsOf[metal.MixArgs](g)
	dim, hc := int(a.Dim), int(a.HC)
	streams := row(g.f32(0), g.X, hc*dim)
	m := row(g.f32(1), g.X, hc)
	base, scale := g.f32(2), g.f32(3)
	inv := inverseRMS(streams, a.NormEps)
	var buf [16]float32
	pre := buf[:hc]
	for h := range hc {
		pre[h] = sigmoid(mul(mul(m[h], inv), scale[0])+base[h]) + a.HCEps
	}
	x := row(g.f32(5), g.X, dim)
	mixStreams(x, streams, pre)
	rmsNormRow(x, g.f32(4)[:dim], a.NormEps)
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
		hyperApply4(s, y, post, comb)
		return
	}
	var in [16]float32
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

// hyperApply4 is hyperApply for four streams, with the matrix in registers.
func hyperApply4(s, y, post, comb []float32) {
	n := len(y)
	s0, s1, s2, s3 := s[:n], s[n:2*n], s[2*n:3*n], s[3*n:4*n]
	p, c := (*[4]float32)(post), (*[16]float32)(comb)
	for d, v := range y {
		a0, a1, a2, a3 := s0[d], s1[d], s2[d], s3[d]
		s0[d] = mul(p[0], v) + mul(c[0], a0) + mul(c[4], a1) + mul(c[8], a2) + mul(c[12], a3)
		s1[d] = mul(p[1], v) + mul(c[1], a0) + mul(c[5], a1) + mul(c[9], a2) + mul(c[13], a3)
		s2[d] = mul(p[2], v) + mul(c[2], a0) + mul(c[6], a1) + mul(c[10], a2) + mul(c[14], a3)
		s3[d] = mul(p[3], v) + mul(c[3], a0) + mul(c[7], a1) + mul(c[11], a2) + mul(c[15], a3)
	}
}
