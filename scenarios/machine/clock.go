package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clock is the range of frequencies that were seen, in MHz; 0 if none is visible,
// as in most virtual machines.
type clock struct {
	low, top float64
}

// look adds what all cores run at now. Of each look the fastest core counts: an
// idle one that sleeps says nothing about those that work.
func (c *clock) look() {
	mhz := fastest()
	if mhz <= 0 {
		return
	}
	if c.low == 0 || mhz < c.low {
		c.low = mhz
	}
	c.top = max(c.top, mhz)
}

// fastest is the frequency of the fastest core in MHz, 0 if it is not visible.
func fastest() float64 {
	top := 0.0
	files, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
	if err == nil {
		for _, name := range files {
			if text, err := os.ReadFile(name); err == nil {
				top = max(top, parseKHz(string(text)))
			}
		}
	}
	if top > 0 {
		return top
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	return parseCPUInfo(string(text))
}

// parseKHz reads a file of cpufreq, in MHz.
func parseKHz(text string) float64 {
	khz, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(khz > 0) {
		return 0
	}
	return khz / 1000
}

// parseCPUInfo finds the highest "cpu MHz" of /proc/cpuinfo.
func parseCPUInfo(text string) float64 {
	top := 0.0
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "cpu MHz" {
			continue
		}
		if mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			top = max(top, mhz)
		}
	}
	return top
}
