package server

import (
	"net/http"
	"time"
)

// ModelInfo describes the loaded model to clients.
type ModelInfo struct {
	ID            string // "ds4-tiny"; echoed when a request names no model
	Name          string // for people
	ContextTokens int    // positions of a session
	DefaultTokens int    // output cap of a request that names none
	// MaxPrefix is the model's text that asks for maximal effort (chat.FindMaxPrefix),
	// "" if it has none.
	MaxPrefix string
}

// The name under which clients of the original server know the model. It is listed
// first, whatever is loaded: they are configured with it, and a name never selects
// weights.
const (
	familyID      = "deepseek-v4-flash"
	familyName    = "DeepSeek V4 Flash"
	modelOwner    = "ds4"
	modelCreated  = 1776988800 // 2026-04-24, fixed so that the list never changes
	modelListPath = "/v1/models"
)

type modelObject struct {
	ID            string      `json:"id"`
	Object        string      `json:"object"`
	Created       int64       `json:"created"`
	OwnedBy       string      `json:"owned_by"`
	Name          string      `json:"name"`
	Root          string      `json:"root"` // the model that answers, whatever it is called
	ContextLength int         `json:"context_length"`
	TopProvider   topProvider `json:"top_provider"`
	Parameters    []string    `json:"supported_parameters"`
	// The same once more, as Anthropic's clients read it.
	Type        string `json:"type"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"`
}

type topProvider struct {
	ContextLength       int  `json:"context_length"`
	MaxCompletionTokens int  `json:"max_completion_tokens"`
	IsModerated         bool `json:"is_moderated"`
}

type modelList struct {
	Object  string        `json:"object"`
	Data    []modelObject `json:"data"`
	HasMore bool          `json:"has_more"` // this and what follows is for Anthropic's clients
	FirstID string        `json:"first_id"`
	LastID  string        `json:"last_id"`
}

// models lists the names that the loaded model goes by.
func (m ModelInfo) models() []modelObject {
	object := func(id, name string) modelObject {
		return modelObject{
			ID: id, Object: "model", Created: modelCreated, OwnedBy: modelOwner, Name: name, Root: m.ID,
			ContextLength: m.ContextTokens,
			Type:          "model", DisplayName: name, CreatedAt: time.Unix(modelCreated, 0).UTC().Format(time.RFC3339),
			TopProvider: topProvider{
				ContextLength:       m.ContextTokens,
				MaxCompletionTokens: min(m.DefaultTokens, m.ContextTokens),
			},
			Parameters: []string{
				"tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "stream", "reasoning_effort",
			},
		}
	}
	list := []modelObject{object(familyID, familyName)}
	if m.ID != familyID {
		list = append(list, object(m.ID, m.Name))
	}
	return list
}

// handleModels serves GET /v1/models.
func (s *Server) handleModels(w http.ResponseWriter, _ *http.Request) error {
	list := s.cfg.Model.models()
	return s.writeJSON(w, http.StatusOK, modelList{
		Object: "list", Data: list, FirstID: list[0].ID, LastID: list[len(list)-1].ID,
	})
}

// handleModel serves GET /v1/models/ID for one of the listed ids.
func (s *Server) handleModel(m modelObject) handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		return s.writeJSON(w, http.StatusOK, m)
	}
}
