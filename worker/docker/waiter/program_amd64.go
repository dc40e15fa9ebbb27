package waiter

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"unsafe"
)

// start returns the address of the program's first instruction.
func start() unsafe.Pointer

// mark stands behind the program's last instruction.
const mark = "sluice.end"

// load is the address that the program is loaded at.
const load = 0x400000

// Program returns an executable that can be run in any image on this kind of
// processor.
func Program() ([]byte, error) {
	const most = 1024
	code := unsafe.Slice((*byte)(start()), most)
	n := bytes.Index(code, []byte(mark))
	if n < 0 {
		return nil, errors.New("the end of the program that waits in containers cannot be found")
	}
	const headers = 64 + 3*56
	size := uint64(headers + n)
	var out bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
			Entry: load + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 3,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: load, Paddr: load, Filesz: size, Memsz: size, Align: 0x1000},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Vaddr: base, Paddr: base, Memsz: MaxCommand, Align: 0x1000},
		elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 0x10},
		code[:n],
	} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
