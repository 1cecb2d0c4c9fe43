// Package machine watches the computer on which something is measured: how much
// of it others used, whether its clock changed, how fast its memory can be read.
//
// It promises that what it cannot know is absent and not zero by mistake, and
// that watching costs nothing while it goes on. It knows Linux; elsewhere it knows
// the bandwidth only.
package machine

import (
	"fmt"

	"ds4/reports"
)

// Limits above which a measurement is doubtful.
const (
	tooBusyPercent   = 5  // of the CPU time, used by others
	frequencyPercent = 10 // between the lowest and the highest clock
)

// Watch observes one measurement.
type Watch struct {
	load  *load
	wait  *wait
	clock clock
	state reports.Machine
}

// Start begins to watch. serverPID is the process under test, 0 if it is not ours:
// then nobody can say who the others are.
func Start(serverPID int) *Watch {
	w := &Watch{load: startLoad(serverPID), wait: startWait(serverPID)}
	w.clock.look()
	return w
}

// SetBandwidth keeps what ReadBandwidth measured for this measurement.
func (w *Watch) SetBandwidth(bytesPerSecond float64) { w.state.ReadBPS = bytesPerSecond }

// Look takes one more sample of the clock. It is for the moments in which the
// server works; between measurements an idle core slows down.
func (w *Watch) Look() { w.clock.look() }

// Stop ends the watch and returns what was seen, and the doubts that follow.
func (w *Watch) Stop() (reports.Machine, []string) {
	w.clock.look()
	m := w.state
	m.FrequencyLowMHz, m.FrequencyTopMHz = w.clock.low, w.clock.top
	var warnings []string
	if percent, ok := w.load.percent(); ok {
		m.OthersPercent = percent
		if percent > tooBusyPercent {
			warnings = append(warnings, fmt.Sprintf("other processes used %.0f %% of the CPU time", percent))
		}
	}
	if percent, ok := w.wait.percent(); ok {
		m.WaitPercent = percent
	}
	if m.FrequencyLowMHz > 0 && m.FrequencyTopMHz > m.FrequencyLowMHz*(1+frequencyPercent/100.) {
		warnings = append(warnings, fmt.Sprintf("the clock of the CPU changed between %.0f and %.0f MHz", m.FrequencyLowMHz, m.FrequencyTopMHz))
	}
	return m, warnings
}
