package html

// compareView is the part that compares with a baseline.
type compareView struct{}
