package segment

// Layout describes the state of one model to the file format: how many bytes
// each row of each layer has. It holds no values and knows no engine.
type Layout struct {
	Vocab  int // token ids are below it; the logits section has Vocab float32
	Window int // raw rows kept: min(to, Window)
	Layers []Layer
}

// Layer describes the state of one layer.
type Layer struct {
	Ratio         int // tokens per compressed row: 0 (none), 4 or 128
	RowBytes      int // bytes of a raw row, and of a compressed row
	IndexRowBytes int // bytes of an indexer row; 0 if the layer has no indexer
	FrontierBytes int // bytes of the compressor's and indexer's partial state
}
