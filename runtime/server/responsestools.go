package server

import (
	"cmp"
	"encoding/json"
	"fmt"

	"ds4/runtime/chat"
)

const (
	// toolSearchName is the function by which the model asks the client for more tools.
	toolSearchName = "tool_search"
	// plainNamespace is what tools without a namespace are told apart by.
	plainNamespace = "functions"
)

// customSchema describes chat.FreeArgument.
const customSchema = `{"type":"object","properties":{"` + chat.FreeArgument + `":{"type":"string"}},"required":["` + chat.FreeArgument + `"]}`

// responsesTool is one tool as the client declares it: a function, one of a namespace,
// one with free-form input, or the search for tools.
type responsesTool struct {
	kind      string // the type of the items that call it
	namespace string
	name      string
	spoken    string // the name that the model knows it by
}

// responsesTools are the tools of a request, and of what searches found meanwhile.
type responsesTools struct {
	offered  []chat.Tool // those that the prompt shows
	declared []responsesTool
}

// read reads the tools of a request.
func (t *responsesTools) read(r *jsonReader, path string) error {
	raw, err := r.raw()
	if err != nil {
		return err
	}
	return t.add(raw, path)
}

// add declares tools and shows them to the model.
func (t *responsesTools) add(raw json.RawMessage, path string) error {
	return t.each(raw, path, "", func(tool responsesTool, shown chat.Tool) {
		known := len(t.declared)
		shown.Name = t.declare(tool)
		if len(t.declared) > known {
			t.offered = append(t.offered, shown)
		}
	})
}

// found declares tools that a search returned. The model sees them in its result:
// in front of the conversation they would change a prompt that is cached.
func (t *responsesTools) found(raw json.RawMessage, path string) error {
	return t.each(raw, path, "", func(tool responsesTool, _ chat.Tool) { t.declare(tool) })
}

// declare gives a tool the name that the model calls it by: its own, or with its
// namespace if another tool has that already. A tool that is declared again keeps it.
func (t *responsesTools) declare(tool responsesTool) string {
	for _, d := range t.declared {
		if d.namespace == tool.namespace && d.name == tool.name {
			return d.spoken
		}
	}
	tool.spoken = tool.name
	if _, taken := t.called(tool.name); taken {
		tool.spoken = cmp.Or(tool.namespace, plainNamespace) + "." + tool.name
	}
	t.declared = append(t.declared, tool)
	return tool.spoken
}

// called finds the tool that the model calls by a name.
func (t *responsesTools) called(spoken string) (responsesTool, bool) {
	for _, d := range t.declared {
		if d.spoken == spoken {
			return d, true
		}
	}
	return responsesTool{kind: itemFunctionCall, name: spoken, spoken: spoken}, false
}

// spoken is the name by which the model called a tool.
func (t *responsesTools) spoken(namespace, name string) string {
	for _, d := range t.declared {
		if d.namespace == namespace && d.name == name {
			return d.spoken
		}
	}
	return name
}

// each calls use for every tool of an array that can be called here; namespace is the
// one that the array belongs to. Tools that other servers run themselves, such as a
// search of the web, are passed over.
func (t *responsesTools) each(raw json.RawMessage, path, namespace string, use func(responsesTool, chat.Tool)) error {
	if raw == nil {
		return nil
	}
	r := newJSONReader(raw)
	tok, err := r.next()
	if err != nil {
		return err
	}
	if tok != json.Delim('[') {
		return badField(path, "want an array, got %s", kind(tok))
	}
	return r.elements(func(i int, first json.Token) error {
		path := fmt.Sprintf("%s[%d]", path, i)
		d, err := readToolDeclaration(r, first, path)
		if err != nil {
			return err
		}
		return t.use(d, namespace, path, use)
	})
}

// use declares one tool, or each tool of a namespace.
func (t *responsesTools) use(d toolDeclaration, namespace, path string, use func(responsesTool, chat.Tool)) error {
	tool := responsesTool{namespace: namespace, name: d.name}
	switch d.kind {
	case "":
		return missing(path + ".type")
	case "function":
		tool.kind = itemFunctionCall
	case "custom":
		tool.kind = itemCustomCall
		d.parameters = customSchema
		if d.grammar != "" {
			d.description += fmt.Sprintf("\n\nIts input follows this grammar (%s):\n%s", d.syntax, d.grammar)
		}
	case toolSearchName:
		if d.execution != "client" {
			return nil
		}
		tool.kind, tool.name = itemToolSearchCall, toolSearchName
	case "namespace":
		switch {
		case namespace != "":
			return badField(path, "a namespace in a namespace is not supported")
		case d.name == "":
			return missing(path + ".name")
		case len(d.name) > chat.MaxNameBytes:
			return tooLong(path+".name", len(d.name), chat.MaxNameBytes)
		}
		return t.each(d.tools, path+".tools", d.name, use)
	default:
		return nil
	}
	if len(t.declared) >= maxTools {
		return badField(path, "more than %d tools", maxTools)
	}
	shown := chat.Tool{Name: tool.name, Description: d.description, Parameters: d.parameters}
	if err := checkTool(&shown, path); err != nil {
		return err
	}
	use(tool, shown)
	return nil
}

// toolDeclaration is one element of a tools array of the Responses API.
type toolDeclaration struct {
	kind        string
	name        string
	description string
	parameters  string
	execution   string          // of tool_search: who runs it
	syntax      string          // of a custom tool's grammar
	grammar     string          // of a custom tool
	tools       json.RawMessage // of a namespace
}

// readToolDeclaration reads one tool, whose first token was read.
func readToolDeclaration(r *jsonReader, first json.Token, path string) (d toolDeclaration, err error) {
	if first != json.Delim('{') {
		return d, badField(path, "want an object, got %s", kind(first))
	}
	err = r.fields(func(name string) (err error) {
		path := path + "." + name
		switch name {
		case "type":
			d.kind, _, err = r.str(path)
		case "name":
			d.name, _, err = r.str(path)
		case "description":
			d.description, _, err = r.str(path)
		case "parameters":
			d.parameters, err = r.object(path)
		case "execution":
			d.execution, _, err = r.str(path)
		case "format":
			err = d.readFormat(r, path)
		case "tools":
			d.tools, err = r.raw()
		default:
			err = r.skip()
		}
		return err
	})
	return d, err
}

// readFormat reads the format of free-form input, of which grammars have something to
// say.
func (d *toolDeclaration) readFormat(r *jsonReader, path string) error {
	tok, err := r.next()
	if err != nil || tok != json.Delim('{') {
		if err == nil {
			err = r.skipRest(tok)
		}
		return err
	}
	return r.fields(func(name string) (err error) {
		switch path := path + "." + name; name {
		case "syntax":
			d.syntax, _, err = r.str(path)
		case "definition":
			d.grammar, _, err = r.str(path)
		default:
			err = r.skip()
		}
		return err
	})
}
