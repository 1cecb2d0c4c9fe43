// Package ds4_test holds the rules of the source tree that a compiler does not
// check: which package may import which, what no package may import and what to
// use instead, how long a file may get. A rule that fails names the file, the
// rule and the permitted way.
package ds4_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	modulePath   = "ds4"
	maxFileLines = 600
	maxFuncLines = 100
)

// arrows lists, for each part of the tree, what of this module it may import. The
// longest matching prefix decides; "x/..." stands for x and everything below it.
// Test files may also import what testArrows adds.
var arrows = []struct {
	from string
	to   []string
}{
	{"metal", []string{"metal/..."}},

	{"runtime/vfs", nil},
	{"runtime/failpoint", nil},
	{"runtime/client", nil},
	{"runtime/sample", nil},
	{"runtime/gguf", []string{"metal/quant"}},
	{"runtime/tokenizer", []string{"runtime/gguf"}},
	{"runtime/chat", []string{"runtime/tokenizer"}},
	{"runtime/model", []string{"metal/...", "runtime/gguf", "runtime/tokenizer", "runtime/chat"}},
	{"runtime/model/tiny", []string{"runtime/gguf"}},
	// The engine knows the layout of a segment, not the store and not a file.
	{"runtime/engine", []string{"metal/...", "runtime/model/...", "runtime/kvstore/segment"}},
	{"runtime/kvstore/segment", nil},
	{"runtime/kvstore", []string{"runtime/vfs", "runtime/failpoint", "runtime/kvstore/..."}},
	{"runtime/scheduler", []string{"metal", "runtime/chat", "runtime/engine", "runtime/failpoint",
		"runtime/kvstore/...", "runtime/model", "runtime/sample", "runtime/tokenizer"}},
	{"runtime/server", []string{"metal", "runtime/chat", "runtime/failpoint", "runtime/kvstore", "runtime/sample", "runtime/server/ui",
		"runtime/scheduler", "runtime/tokenizer", "runtime/vfs"}},
	{"runtime/config", []string{"runtime/failpoint", "runtime/model", "runtime/sample"}},
	{"runtime/cli", []string{"metal/...", "runtime/..."}},

	{"faults", []string{"faults/...", "metal/...", "runtime/vfs", "runtime/failpoint", "runtime/kvstore/segment"}},
	{"reports", []string{"reports/..."}},
	{"reports/html/browser", nil},
	// The harness is a black box: it knows a server by its API, its log and its files.
	{"scenarios", []string{"scenarios/...", "faults/...", "reports/...", "runtime/client", "runtime/failpoint"}},
	{"scenarios/selftest", []string{"scenarios/...", "faults/...", "reports/...", "runtime/...", "metal/..."}},

	{"cmd/ds4", []string{"runtime/cli"}},
	{"cmd/ds4bench", []string{"scenarios/cli"}},
}

// testArrows is what test files may import on top.
var testArrows = []struct {
	from string
	to   []string
}{
	{"metal", nil},
	{"runtime", []string{"runtime/...", "metal/...", "faults/errfs", "reports/html/browser"}},
	{"faults", []string{"runtime/..."}},
	{"reports", nil},
	{"scenarios", nil},
	{"cmd", nil},
}

// forbidden lists imports with what to use instead. A package below one of the
// directories in except may have it.
var forbidden = []struct {
	path    string // the import, or a prefix that ends in "/"
	instead string
	except  []string
}{
	{"gopkg.in/yaml.v3", "github.com/goccy/go-yaml", nil},
	{"gopkg.in/yaml.v2", "github.com/goccy/go-yaml", nil},
	{"sigs.k8s.io/yaml", "github.com/goccy/go-yaml", nil},
	{"github.com/montanaflynn/stats", "ds4/reports/stat", []string{"reports/stat"}},
	{"gonum.org/v1/gonum/", "ds4/reports/stat", []string{"reports/stat"}},
	{"golang.org/x/perf/", "ds4/reports/stat", []string{"reports/stat", "reports/benchfmt"}},
	{"github.com/olekukonko/tablewriter", "ds4/reports/table", []string{"reports/table"}},
	{"github.com/prometheus/client_golang/", "the metrics of ds4/runtime/server", []string{"runtime/server", "reports/prom"}},
	{"github.com/spf13/", "flags belong to the cli packages", []string{"runtime/cli", "runtime/config", "scenarios/cli"}},
	{"github.com/google/renameio", "ds4/runtime/vfs, which also syncs the directory", nil},
	{"github.com/natefinch/atomic", "ds4/runtime/vfs, which also syncs the directory", nil},
	{"math/rand", "math/rand/v2 with a seed that the caller gives", nil},
	{"io/ioutil", "io and os", nil},
	{"C", "nothing: every binary is built without cgo", nil},
}

// externals is what the parts of the tree that are bound to the standard library
// may import besides it.
var externals = []struct {
	from string
	to   []string
}{
	{"metal", []string{"golang.org/x/sys/", "github.com/ebitengine/purego"}},
	{"runtime/engine", []string{"golang.org/x/sys/"}},
	{"runtime/model", nil},
	{"runtime/gguf", []string{"golang.org/x/sys/"}},
	{"runtime/kvstore", []string{"golang.org/x/sys/"}},
	{"runtime/vfs", []string{"golang.org/x/sys/"}},
	{"runtime/failpoint", nil},
}

// noFileIO lists packages that never open a file: state reaches them through a
// seam, so that tests can put anything behind it.
var noFileIO = []string{"runtime/engine", "runtime/kvstore/segment", "runtime/sample", "runtime/chat"}

// longFiles are files over maxFileLines, each with the reason why it is one file.
var longFiles = map[string]string{}

// longFuncs are functions over maxFuncLines ("file.go:Name"), each with a reason.
var longFuncs = map[string]string{}

// source is one Go file of the module.
type source struct {
	path  string // slash-separated, from the module's root
	dir   string
	test  bool
	lines int
	file  *ast.File
	fset  *token.FileSet
}

// imports returns the import paths of a file.
func (s source) imports() []string {
	var list []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			list = append(list, p)
		}
	}
	return list
}

// skipDir reports whether a directory holds no sources of this module.
func skipDir(name string) bool {
	return name != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules")
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		list = append(list, source{
			path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"),
			lines: bytes.Count(text, []byte("\n")), file: file, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 10 {
		t.Fatalf("found %d Go files: the walk is broken", len(list))
	}
	return list
}

// below reports whether dir is root or lies below it.
func below(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}

// permits reports whether one of the patterns covers the package.
func permits(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if root, ok := strings.CutSuffix(p, "/..."); ok {
			return below(pkg, root)
		}
		return p == pkg
	})
}

// generated reports whether a file says that a generator wrote it.
func (s source) generated() bool { return ast.IsGenerated(s.file) }

func TestArrows(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "." {
			continue
		}
		var allowed []string
		found, longest := false, -1
		for _, a := range arrows {
			if below(s.dir, a.from) && len(a.from) > longest {
				allowed, found, longest = a.to, true, len(a.from)
			}
		}
		if !found {
			t.Errorf("%s: no arrow is declared for directory %s: decide what it may import and add it to the table", s.path, s.dir)
			continue
		}
		if s.test {
			for _, a := range testArrows {
				if below(s.dir, a.from) {
					allowed = append(slices.Clone(allowed), a.to...)
				}
			}
		}
		for _, imp := range s.imports() {
			pkg, ours := strings.CutPrefix(imp, modulePath+"/")
			if !ours || pkg == s.dir || permits(allowed, pkg) || (s.test && below(pkg, s.dir)) {
				continue
			}
			t.Errorf("%s imports %s: %s may import only %v of this module", s.path, imp, s.dir, allowed)
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.imports() {
			for _, f := range forbidden {
				hit := imp == f.path || strings.HasSuffix(f.path, "/") && strings.HasPrefix(imp, f.path) ||
					strings.HasPrefix(imp, f.path+"/") && f.path != "math/rand"
				if !hit || slices.ContainsFunc(f.except, func(dir string) bool { return below(s.dir, dir) }) {
					continue
				}
				t.Errorf("%s imports %s: use %s", s.path, imp, f.instead)
			}
			if !s.test {
				checkExternal(t, s, imp)
			}
		}
	}
}

// checkExternal keeps the inner packages on the standard library.
func checkExternal(t *testing.T, s source, imp string) {
	t.Helper()
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") {
		return // standard library or ours
	}
	for _, e := range externals {
		if below(s.dir, e.from) && !slices.ContainsFunc(e.to, func(p string) bool { return strings.HasPrefix(imp, p) }) {
			t.Errorf("%s imports %s: %s uses the standard library and %v only", s.path, imp, e.from, e.to)
		}
	}
}

func TestNoFileIO(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !slices.ContainsFunc(noFileIO, func(dir string) bool { return below(s.dir, dir) }) {
			continue
		}
		for _, imp := range s.imports() {
			if imp == "os" || imp == "syscall" || imp == modulePath+"/runtime/vfs" {
				t.Errorf("%s imports %s: %s does no file I/O; take bytes or an interface from the caller", s.path, imp, s.dir)
			}
		}
	}
}

func TestNoGoFilesInRuntime(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "runtime" {
			t.Errorf("%s: a package named runtime would shadow the standard one; put it in a package below", s.path)
		}
	}
}

func TestPackageComments(t *testing.T) {
	comment := map[string]bool{}
	for _, s := range sources(t) {
		if s.test && s.dir != "." {
			continue
		}
		comment[s.dir] = comment[s.dir] || s.file.Doc != nil
	}
	for dir, ok := range comment {
		if !ok {
			t.Errorf("%s: no file has a package comment; say what the package promises and what it does not", dir)
		}
	}
}

var packagePath = regexp.MustCompile(`^[a-z0-9]+(/[a-z0-9]+)+$`)

// TestDesignNamesPackages: whoever looks for a thing starts with docs/design.md.
func TestDesignNamesPackages(t *testing.T) {
	text, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```\n")
	parts, _, _ := strings.Cut(rest, "```\n")
	named := map[string]bool{}
	for _, word := range strings.Fields(parts) {
		named[strings.TrimSuffix(word, "/")] = true
	}
	dirs := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test && !dirs[s.dir] && !named[s.dir] {
			t.Errorf("package %s is not among the parts of docs/design.md: say there what it is for", s.dir)
		}
		dirs[s.dir] = true
	}
	for word := range named {
		if packagePath.MatchString(word) && !dirs[word] {
			t.Errorf("docs/design.md names %s, and there is no such package", word)
		}
	}
}

func TestSize(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		if s.lines > maxFileLines {
			seen[s.path] = true
			if longFiles[s.path] == "" {
				t.Errorf("%s has %d lines, the limit is %d: split it, or give a reason in longFiles", s.path, s.lines, maxFileLines)
			}
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			key := s.path + ":" + f.Name.Name
			if n > maxFuncLines {
				seen[key] = true
				if longFuncs[key] == "" {
					t.Errorf("%s has %d lines, the limit is %d: split it, or give a reason in longFuncs", key, n, maxFuncLines)
				}
			}
		}
	}
	for _, list := range []map[string]string{longFiles, longFuncs} {
		for name := range list {
			if !seen[name] {
				t.Errorf("%s is not too long any more: remove its entry", name)
			}
		}
	}
}

// machinePath finds paths that exist on one developer's machine only.
var machinePath = regexp.MustCompile(`(^|[^\w.$}-])/(work|home|Users|root)/\w`)

// unfinished finds notes to self; work that is left belongs in an issue.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func TestText(t *testing.T) {
	kinds := []string{".go", ".md", ".yaml", ".yml", ".mod", ".txtar", ".s", "Makefile", "LICENSE", ".ci/run"}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(p)
		if d.IsDir() {
			if name != ".ci" && skipDir(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if name == "tidy_test.go" || !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasSuffix(name, k) }) {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := machinePath.FindString(line); m != "" {
				t.Errorf("%s:%d: %q looks like a path of one machine; use a relative one or testdata", name, i+1, strings.TrimSpace(m))
			}
			if m := unfinished.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: open an issue instead", name, i+1, m)
			}
			if strings.HasSuffix(line, " ") && strings.HasSuffix(name, ".go") {
				t.Errorf("%s:%d: trailing space", name, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// link finds what a Markdown page links to inside the tree.
var link = regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)`)

// notInAnchors is what GitHub leaves out of a heading's anchor.
var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, anchor := page, strings.TrimPrefix(m[2], "#")
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			target, err := os.ReadFile(to)
			if err != nil {
				t.Errorf("%s: %s leads nowhere: %v", page, m[0], err)
			} else if anchor != "" && !hasHeading(string(target), anchor) {
				t.Errorf("%s: %s: %s has no heading %q", page, m[0], to, anchor)
			}
		}
	}
}

func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line {
			plain := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			if strings.ReplaceAll(plain, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

// TestServerIsLean asks the go command what ds4 links: the harness must not be
// part of the server. The fault hooks are, on purpose.
func TestServerIsLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/ds4").Output()
	if err != nil {
		t.Fatal(commandError("go list -deps ./cmd/ds4", err))
	}
	hooks := 0
	for pkg := range strings.FieldsSeq(string(out)) {
		rest, ours := strings.CutPrefix(pkg, modulePath+"/")
		if !ours {
			continue
		}
		for _, part := range []string{"faults", "scenarios", "reports"} {
			if below(rest, part) {
				t.Errorf("cmd/ds4 links %s: the server contains nothing of %s", pkg, part)
			}
		}
		if rest == "metal/fault" || rest == "runtime/failpoint" {
			hooks++
		}
	}
	if hooks != 2 {
		t.Errorf("cmd/ds4 links %d of the 2 packages with fault hooks: scenarios cannot inject anything", hooks)
	}
}

// TestHarnessIsBlackBox: what ds4bench links must not contain the server's inside.
func TestHarnessIsBlackBox(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/ds4bench").Output()
	if err != nil {
		t.Fatal(commandError("go list -deps ./cmd/ds4bench", err))
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		switch pkg {
		case modulePath + "/runtime/engine", modulePath + "/runtime/server", modulePath + "/runtime/scheduler", modulePath + "/runtime/cli":
			t.Errorf("cmd/ds4bench links %s: the harness sees a server from outside only", pkg)
		}
	}
}

func commandError(name string, err error) error {
	if exit, ok := err.(*exec.ExitError); ok {
		return fmt.Errorf("%s: %w\n%s", name, err, exit.Stderr)
	}
	return fmt.Errorf("%s: %w", name, err)
}
