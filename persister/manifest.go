package persister

// A Manifest is a workspace's manifest.json.
type Manifest struct{}
