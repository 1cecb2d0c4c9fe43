package kernels

// fma is a*b+c with one rounding: the compiler fuses it, and a test looks.
func fma(a, b, c float32) float32 { return a*b + c }

// fmaRow is dst[i] = fma(x[i], w, dst[i]).
func fmaRow(dst, x []float32, w float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = fma(v, w, dst[i])
	}
}

// fmaLanes is acc[i] = fma(a[i], b[i], acc[i]).
func fmaLanes(acc, a, b *[rowLanes]float32) {
	for i, v := range a {
		acc[i] = fma(v, b[i], acc[i])
	}
}
