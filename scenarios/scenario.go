// Package scenarios is the scenario format: its types, a strict loader, its JSON
// Schema, and the embedded library.
//
// A scenario is a YAML file that says what happens to a server (steps) and how
// it must come out (expect). The package promises that a file which loads can be
// executed: every name, offset, rule and variable in it has been checked. It
// executes nothing itself; package run does.
package scenarios

import "ds4/faults"

// Lane says what a scenario needs from the host.
type Lane string

// The lanes. What a host does not allow of one is skipped with the reason, and
// inconclusive if it was asked for by name.
const (
	LaneMemory   Lane = "memory"   // the store alone, on a crashable in-memory file system
	LaneProcess  Lane = "process"  // real server processes
	LaneLimits   Lane = "limits"   // small file systems, resource limits, file modes; see package faults/disk
	LaneSyscalls Lane = "syscalls" // system calls that fail by rules; see package faults/syscalls
	LaneRoot     Lane = "root"     // power cuts, and too little memory; see package faults/root
)

// Lanes lists all lanes.
func Lanes() []Lane { return []Lane{LaneMemory, LaneProcess, LaneLimits, LaneSyscalls, LaneRoot} }

// Scenario is one file.
type Scenario struct {
	ID     string `json:"id" jsonschema:"name of the scenario, and of its file: lower case words joined by hyphens"`
	Title  string `json:"title" jsonschema:"one sentence: what is wrong with a runtime that fails"`
	Origin string `json:"origin,omitempty" jsonschema:"where the failure was first seen, such as antirez/ds4#251"`
	// Catalogue names the rows of docs/failure-modes.md that the scenario stands for.
	Catalogue Words    `json:"catalogue,omitempty" jsonschema:"rows of docs/failure-modes.md, such as A6; one or a list"`
	Lane      Lane     `json:"lane"`
	Tags      []string `json:"tags,omitempty"`
	// Catches names the switches of deliberately broken servers (see package
	// selftest) under which this scenario must fail.
	Catches  []string `json:"catches,omitempty" jsonschema:"switches of broken servers that this scenario must catch"`
	Server   Server   `json:"server,omitzero"`
	Repeat   int      `json:"repeat,omitempty" jsonschema:"repetitions, each with its own seed; 1 if absent"`
	Deadline Duration `json:"deadline,omitzero" jsonschema:"for one repetition; 8m if absent"`
	Memory   *Memory  `json:"memory,omitempty" jsonschema:"what lane memory does instead of steps"`
	Steps    []Step   `json:"steps,omitempty"`
	Expect   []Expect `json:"expect"`
	Measure  []string `json:"measure,omitempty"`
	// Builtin says that the file is of the library, and speaks of ds4's own names.
	Builtin bool `json:"-"`
}

// Server says how the server under test is started: ds4, or with a command
// another one.
type Server struct {
	Foreign `yaml:",inline"`

	Model string         `json:"model,omitempty" jsonschema:"embedded (default) or the path of a GGUF file; ${VAR} comes from the environment"`
	Args  map[string]any `json:"args,omitempty" jsonschema:"command line flags without the dashes; true for a flag without a value"`
	Disk  Bytes          `json:"disk,omitzero" jsonschema:"lanes limits and root: size of a file system of its own for the cache directory, such as 64MiB; it lasts as long as the scenario"`
	FS    string         `json:"fs,omitempty" jsonschema:"lane root: what the disk has on it: ext4 (default) or xfs, which needs 300MiB"`
}

// Memory describes a run of the store on a crashable file system.
type Memory struct {
	Segments int `json:"segments" jsonschema:"segments written in one history"`
	Crashes  int `json:"crashes" jsonschema:"crash points tried, each with random losses"`
}

// Step is one thing that happens. Exactly one field is set.
type Step struct {
	Start      *Start     `json:"start,omitempty" jsonschema:"start the server and wait until it is ready"`
	Wait       *Wait      `json:"wait,omitempty" jsonschema:"wait for something, with a deadline"`
	Chat       *Chat      `json:"chat,omitempty" jsonschema:"one chat completion, retried as a client would"`
	Parallel   []Step     `json:"parallel,omitempty" jsonschema:"steps that run at the same time"`
	Turns      *Turns     `json:"turns,omitempty" jsonschema:"a conversation that grows"`
	Signal     *Signal    `json:"signal,omitempty" jsonschema:"send a signal"`
	Stop       *Stop      `json:"stop,omitempty" jsonschema:"SIGTERM, and wait for a clean exit"`
	Corrupt    *Corrupt   `json:"corrupt,omitempty" jsonschema:"damage published files"`
	Plant      *Plant     `json:"plant,omitempty" jsonschema:"put files into the cache directory that no server wrote there"`
	Fill       *Fill      `json:"fill,omitempty" jsonschema:"let a healthy server fill the cache directory with one prompt; done once per run, then copied"`
	Keep       *Keep      `json:"keep,omitempty" jsonschema:"copy the cache directory aside"`
	PutBack    *Keep      `json:"put-back,omitempty" jsonschema:"replace the cache directory by a kept copy"`
	Fault      *FaultStep `json:"fault,omitempty" jsonschema:"add rules to every later start"`
	ClearFault *struct{}  `json:"clear-fault,omitempty" jsonschema:"forget the rules of fault"`
	SwapModel  *SwapModel `json:"swap-model,omitempty" jsonschema:"later starts serve another model"`
	FillDisk   *FillDisk  `json:"fill-disk,omitempty" jsonschema:"lane limits: somebody else takes the space of the disk"`
	FreeDisk   *struct{}  `json:"free-disk,omitempty" jsonschema:"lane limits: gives it back"`
	Limit      *Limit     `json:"limit,omitempty" jsonschema:"lane limits: limits of the running server"`
	Access     *Access    `json:"access,omitempty" jsonschema:"lane limits: who may use the cache directory"`
	PowerCut   *struct{}  `json:"power-cut,omitempty" jsonschema:"lane root: the disk of the server loses its power, the server ends, and the disk is mounted again"`
	Memory     *MemoryCap `json:"memory,omitempty" jsonschema:"lane root: the running server may take only so much more memory; beyond it the kernel kills"`
	RemoveDir  *RemoveDir `json:"remove-dir,omitempty" jsonschema:"lane limits: the cache directory goes away, whatever the server does"`
	Sweep      *Sweep     `json:"sweep,omitempty" jsonschema:"run steps once for each value of a variable"`
	Repeat     *Repeat    `json:"repeat,omitempty" jsonschema:"run steps several times"`
	Mark       *Mark      `json:"mark,omitempty" jsonschema:"remember the metrics page, to find later how much a number has grown"`
	Sleep      Duration   `json:"sleep,omitzero" jsonschema:"do nothing; prefer wait"`
	Expect     []Expect   `json:"expect,omitempty" jsonschema:"assertions at this place"`
}

// Start starts the server on the scenario's cache directory.
type Start struct {
	Faults     []string       `json:"faults,omitempty" jsonschema:"fault rules, POINT=ACTION[:KEY=VALUE...]"`
	Syscalls   []string       `json:"syscalls,omitempty" jsonschema:"lane syscalls: rules for system calls on files of the cache directory, OP{:KEY=VALUE}:ACTION"`
	Args       map[string]any `json:"args,omitempty" jsonschema:"flags for this start, over those of server"`
	Supervised int            `json:"supervised,omitempty" jsonschema:"start again after a death that no step commanded, at most so often"`
	NoCache    bool           `json:"no_cache,omitempty" jsonschema:"start without a cache directory"`
	MayNotFire bool           `json:"may_not_fire,omitempty" jsonschema:"the rules are allowed to stay unfired"`
	Timeout    Duration       `json:"timeout,omitzero" jsonschema:"until ready; 30s if absent"`
}

// Wait waits. Exactly one of Log, Exit, Ready, Chats, Segments is set.
type Wait struct {
	Log      string   `json:"log,omitempty" jsonschema:"a line of the server's log that matches this regular expression"`
	Exit     bool     `json:"exit,omitempty" jsonschema:"the process has ended"`
	Ready    bool     `json:"ready,omitempty" jsonschema:"the server answers, after a supervised restart for example"`
	Chats    bool     `json:"chats,omitempty" jsonschema:"every chat in the background has ended"`
	Segments int      `json:"segments,omitempty" jsonschema:"so many segments are published"`
	Timeout  Duration `json:"timeout,omitzero" jsonschema:"30s if absent"`
}

// Prompt is the user's text: literal, or generated from an embedded corpus.
type Prompt struct {
	Text   string `json:"text,omitempty"`
	Corpus string `json:"corpus,omitempty" jsonschema:"go-source, words or chat"`
	Tokens int    `json:"tokens,omitempty" jsonschema:"at least so many tokens, about; 1 to 1000000"`
	Seed   uint64 `json:"seed,omitempty" jsonschema:"same seed, same text"`
	// Fixed keeps one text for all repetitions; otherwise the seed of the
	// repetition is mixed in.
	Fixed bool `json:"fixed,omitempty" jsonschema:"the same text in every repetition"`
	// Fresh texts are not measured with the server's tokenizer.
	Fresh bool `json:"fresh,omitempty" jsonschema:"another text in every pass of a repeat that has for"`
	// Then makes prompts that begin alike and part.
	Then *Prompt `json:"then,omitempty" jsonschema:"more text, behind this one"`
}

// Chat is one chat completion. With temperature 0 (always, here) the answer is
// compared with that of a server without a cache.
type Chat struct {
	As         string   `json:"as,omitempty" jsonschema:"name of the answer"`
	Prompt     *Prompt  `json:"prompt,omitempty"`
	Same       string   `json:"same,omitempty" jsonschema:"the prompt of an earlier chat"`
	System     string   `json:"system,omitempty"`
	MaxTokens  int      `json:"max_tokens,omitempty" jsonschema:"24 if absent"`
	Stream     bool     `json:"stream,omitempty"`
	Thinking   bool     `json:"thinking,omitempty" jsonschema:"ask for reasoning before the answer"`
	Retries    int      `json:"retries,omitempty" jsonschema:"further attempts after an error"`
	Persist    bool     `json:"persist,omitempty" jsonschema:"retry even after an error that says it is not retryable"`
	NoControl  bool     `json:"no_control,omitempty" jsonschema:"do not compare with a server without a cache, whose own tokens of what was sampled earlier may be others"`
	MayFail    bool     `json:"may_fail,omitempty" jsonschema:"an error is an answer too"`
	Background bool     `json:"background,omitempty" jsonschema:"do not wait for the answer; see wait chats"`
	Abandon    *Abandon `json:"abandon,omitempty" jsonschema:"hang up in the middle"`
	Via        *Via     `json:"via,omitempty" jsonschema:"the way to the server is bad"`
	Timeout    Duration `json:"timeout,omitzero" jsonschema:"for one attempt; 2m if absent"`
}

// Abandon says when the client hangs up; whichever comes first.
type Abandon struct {
	Events int      `json:"events,omitempty" jsonschema:"after so many server-sent events"`
	After  Duration `json:"after,omitzero" jsonschema:"after this time"`
	Log    string   `json:"log,omitempty" jsonschema:"after a line of the server's log that matches this regular expression"`
}

// Turns is a conversation: each turn sends all before it.
type Turns struct {
	As        string   `json:"as"`
	Users     []Prompt `json:"users" jsonschema:"what the user says, one per turn"`
	MaxTokens int      `json:"max_tokens,omitempty"`
	Thinking  bool     `json:"thinking,omitempty" jsonschema:"ask for reasoning before each answer; it is not sent back"`
	Tools     string   `json:"tools,omitempty" jsonschema:"tools to offer, as JSON text of the API; what they return goes back in a turn of its own, named as the call and -result"`
	Result    string   `json:"result,omitempty" jsonschema:"what every call of a tool returns; ok if absent"`
	NoControl bool     `json:"no_control,omitempty" jsonschema:"as for a chat"`
	After     string   `json:"after,omitempty" jsonschema:"go on with the conversation of this name"`
	Retries   int      `json:"retries,omitempty"`
	Timeout   Duration `json:"timeout,omitzero"`
}

// Signal sends a signal to the server.
type Signal struct {
	Kill string `json:"kill" jsonschema:"KILL, TERM or INT"`
}

// Stop ends the server with SIGTERM; a process that is still there at the
// deadline makes the scenario stuck.
type Stop struct {
	Timeout Duration `json:"timeout,omitzero" jsonschema:"25s if absent"`
}

// Corrupt damages files of the cache directory.
type Corrupt struct {
	File  string    `json:"file,omitempty" jsonschema:"newest (default), oldest, largest, smallest, all, nth N, glob PATTERN"`
	Op    faults.Op `json:"op"`
	At    string    `json:"at,omitempty" jsonschema:"bytes, percent, or a section of the segment format with +BYTES; a variable is allowed"`
	Bit   int       `json:"bit,omitempty"`
	Bytes string    `json:"bytes,omitempty" jsonschema:"how many bytes zero overwrites, or inflate adds; 1 if absent; a variable is allowed"`
	Text  string    `json:"text,omitempty" jsonschema:"content for replace, or what substitute puts in"`
	Match string    `json:"match,omitempty" jsonschema:"regular expression: what substitute takes out, once"`
}

// Fill makes the cache directory a copy of one that a healthy server filled with
// this prompt and flags. The answer is kept under As.
type Fill struct {
	As        string  `json:"as"`
	Prompt    *Prompt `json:"prompt"`
	MaxTokens int     `json:"max_tokens,omitempty"`
}

// Keep names a copy of the cache directory.
type Keep struct {
	Name string `json:"name"`
}

// FaultStep adds rules to every later start.
type FaultStep struct {
	Rules []string `json:"rules"`
}

// Plant puts files where no server put them. Every # in the name becomes the
// number of the copy.
type Plant struct {
	Name  string `json:"name" jsonschema:"path below the cache directory; # becomes the number of the copy"`
	Kind  string `json:"kind,omitempty" jsonschema:"file (default), directory, fifo, or symlink, which leads nowhere"`
	From  string `json:"from,omitempty" jsonschema:"content: the beginning of a published file, selected as in corrupt; letters if absent"`
	Bytes string `json:"bytes,omitempty" jsonschema:"length of a file; a variable is allowed"`
	Count int    `json:"count,omitempty" jsonschema:"copies, 1 if absent"`
}

// SwapModel makes a model that differs from the embedded one in one respect.
type SwapModel struct {
	Kind string `json:"kind,omitempty" jsonschema:"weights (default): same shapes, other values; tokenizer: same tokens, one merge less; more-layers, fewer-layers"`
	Seed uint64 `json:"seed,omitempty"`
}

// ModelKinds lists the models that a scenario may swap in.
func ModelKinds() []string { return []string{"weights", "tokenizer", "more-layers", "fewer-layers"} }

// Sweep runs Steps once for each value, as $Var in their strings.
type Sweep struct {
	Var   string   `json:"var" jsonschema:"name of the variable, used as $NAME"`
	Over  []string `json:"over,omitempty" jsonschema:"the values"`
	Op    []string `json:"op,omitempty" jsonschema:"lane syscalls: with until, these operations one after the other, used as $op; each must occur"`
	Until string   `json:"until,omitempty" jsonschema:"unfired: values 1, 2, 3 ... until the rules of a pass do not fire"`
	Limit int      `json:"limit,omitempty" jsonschema:"passes that until may take; more is a failure"`
	Steps []Step   `json:"steps"`
}

// Repeat runs Steps several times.
type Repeat struct {
	Times int `json:"times" jsonschema:"with for: at least so often"`
	// For makes the scenario as long as ds4bench run --for wants it.
	For   Duration `json:"for,omitzero" jsonschema:"go on until this time is over, or the longer one of run --for"`
	Steps []Step   `json:"steps"`
}

// Mark remembers the metrics page of the running process.
type Mark struct {
	As   string `json:"as"`
	Pass int    `json:"pass,omitempty" jsonschema:"only in this pass, from 1, of the repeat around it"`
}
