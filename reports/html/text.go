package html

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Limits of texts on the page. A results file may hold far longer ones.
const (
	maxTitle = 300  // what a pointer over a drawing shows
	maxLabel = 160  // a cell
	maxBlock = 4000 // a failure, which may quote answers and logs
)

// clip shortens a text to n runes and says so.
func clip(s string, n int) string {
	runes := 0
	for i := range s {
		if runes == n-1 {
			return s[:i] + "…"
		}
		runes++
	}
	return s
}

// printable replaces what a browser would act on although it is no markup:
// control characters and marks that turn the direction of the text around them.
// Line ends stay where lines are shown.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// duration writes milliseconds the way a person says them.
func duration(ms float64) string {
	switch a := math.Abs(ms); {
	case a == 0:
		return "0"
	case a < 10:
		return strconv.FormatFloat(math.Round(ms*10)/10, 'f', -1, 64) + " ms"
	case a < 1000:
		return strconv.FormatFloat(math.Round(ms), 'f', -1, 64) + " ms"
	case a < 100_000:
		return strconv.FormatFloat(math.Round(ms/10)/100, 'f', -1, 64) + " s"
	case a < 1e12:
		minutes, seconds := math.Floor(a/60_000), math.Mod(a, 60_000)/1000
		return fmt.Sprintf("%.0f min %.0f s", minutes, seconds)
	}
	return strconv.FormatFloat(ms, 'g', 3, 64) + " ms"
}

// number shows three significant digits, or all before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v), math.IsInf(v, 0):
		return dash // of samples near the end of the range
	case a >= 1e15:
		return strconv.FormatFloat(v, 'g', 4, 64)
	case v == math.Trunc(v) || a >= 100:
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// group puts thin spaces between thousands.
func group(digits string) string {
	const three = 3
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - three; i > 0; i -= three {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return sign + digits
}

// size writes a size of memory.
func size(n uint64) string {
	const unit = 1024
	v, names := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for ; v >= unit && i < len(names)-1; i++ {
		v /= unit
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + names[i]
}
