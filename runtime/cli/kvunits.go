package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxAge is the longest age that can be asked for.
const maxAge = 100 * 365 * 24 * time.Hour

// ageUnits are what --older-than knows beyond the units of Go.
var ageUnits = map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// parseAge reads a positive time span: 90m, 36h, 7d, 2w.
func parseAge(text string) (time.Duration, error) {
	bad := fmt.Errorf("%.40q is not a time span such as 90m, 36h, 7d or 2w", text)
	if text == "" {
		return 0, bad
	}
	if unit := ageUnits[text[len(text)-1]]; unit > 0 {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
		if err != nil || n == 0 || n > uint64(maxAge/unit) {
			return 0, bad
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxAge {
		return 0, bad
	}
	return d, nil
}

// sizeUnits are powers of 1024, with and without the "i" and the "B".
var sizeUnits = map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

// parseSize reads a number of bytes: 0, 500000, 512M, 4GiB.
func parseSize(text string) (int64, error) {
	bad := fmt.Errorf("%.40q is not a size such as 500000, 512M or 4GiB", text)
	digits := strings.TrimRight(text, "KMGTiBb")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text[len(digits):]), "B"), "I")
	scale, known := sizeUnits[unit]
	n, err := strconv.ParseUint(digits, 10, 63)
	if !known || err != nil || int64(n) > math.MaxInt64/scale {
		return 0, bad
	}
	return int64(n) * scale, nil
}

// formatAge prints a time span in its largest unit.
func formatAge(d time.Duration) string {
	switch {
	case d < 0:
		return "future" // of a clock that was set back
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
