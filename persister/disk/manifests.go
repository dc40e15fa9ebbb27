package disk

import (
	"bytes"
	"sync"

	"sluice/persister"
)

// maxKnown bounds the text of the manifests that are remembered: room for some
// 50,000 outputs. What they were read as takes somewhat more again.
const maxKnown = 32 << 20

// manifests remembers how manifests that were written last are to be read: to
// parse that of a workspace takes longer than anything else about a small job.
// The file decides: what is remembered counts only for the very bytes that it
// has. It belongs to one at a time: whoever takes it may share it with what he
// makes of it, and brings that.
type manifests struct {
	mu    sync.Mutex
	size  int
	known map[string]manifest // by workspace
}

type manifest struct {
	text []byte
	read *persister.Manifest
}

// take returns what a text is read as, or nil, and forgets it. A change that
// fails before put costs the next one the time to read it.
func (m *manifests) take(workspace string, text []byte) *persister.Manifest {
	m.mu.Lock()
	k := m.known[workspace]
	m.forget(workspace)
	m.mu.Unlock()
	if !bytes.Equal(k.text, text) {
		return nil
	}
	return k.read
}

// put remembers a manifest, and forgets any others for which there is no room.
func (m *manifests) put(workspace string, text []byte, read *persister.Manifest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(workspace)
	if cap(text) > maxKnown {
		return
	}
	for other := range m.known {
		if m.size+cap(text) <= maxKnown {
			break
		}
		m.forget(other)
	}
	if m.known == nil {
		m.known = map[string]manifest{}
	}
	m.known[workspace] = manifest{text, read}
	m.size += cap(text)
}

// forget is called with mu held.
func (m *manifests) forget(workspace string) {
	m.size -= cap(m.known[workspace].text)
	delete(m.known, workspace)
}
