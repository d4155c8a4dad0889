// Interop drives containerd's estargz library over archives, for the tests of sapwood.
//
//	interop read ARCHIVE [TOC_DIGEST]   every entry as a line of JSON, in order of names; every file read and verified
//	interop shared ARCHIVE              the same of one whose chunks share members: the library's verifier takes none of those,
//	                                    its own included, so chunks are held against the digests in the TOC
//	interop build TAR ARCHIVE [CHUNK_SIZE [MIN_CHUNK_SIZE]]
//	interop footer ARCHIVE              the offset of the TOC
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	digest "github.com/opencontainers/go-digest"
)

type line struct {
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	Mode      int64             `json:"mode"`
	Size      int64             `json:"size"`
	ModTime   int64             `json:"mtime_ns"`
	UID       int               `json:"uid"`
	GID       int               `json:"gid"`
	Link      string            `json:"link,omitempty"`
	DevMajor  int               `json:"dev_major,omitempty"`
	DevMinor  int               `json:"dev_minor,omitempty"`
	Xattrs    map[string][]byte `json:"xattrs,omitempty"`
	Links     int               `json:"links"`
	SHA256    string            `json:"sha256,omitempty"`
	FirstName string            `json:"first,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "read":
		return read(args[1], args[2:], false)
	case len(args) == 2 && args[0] == "shared":
		return read(args[1], nil, true)
	case len(args) >= 3 && args[0] == "build":
		return build(args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "footer":
		return footer(args[1])
	}
	return fmt.Errorf("usage: interop read ARCHIVE [TOC_DIGEST] | shared ARCHIVE | build TAR ARCHIVE [CHUNK_SIZE [MIN_CHUNK_SIZE]] | footer ARCHIVE")
}

func section(name string) (*io.SectionReader, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(file, 0, stat.Size()), nil
}

func footer(name string) error {
	bytes, err := section(name)
	if err != nil {
		return err
	}
	toc, _, err := estargz.OpenFooter(bytes)
	if err != nil {
		return err
	}
	fmt.Println(toc)
	return nil
}

func read(name string, rest []string, shared bool) error {
	bytes, err := section(name)
	if err != nil {
		return err
	}
	reader, err := estargz.Open(bytes, estargz.WithDecompressors(new(zstdchunked.Decompressor)))
	if err != nil {
		return err
	}
	toc := reader.TOCDigest()
	if len(rest) > 0 {
		if toc, err = digest.Parse(rest[0]); err != nil {
			return err
		}
	}
	var verifier estargz.TOCEntryVerifier = digests{}
	if !shared {
		if verifier, err = reader.VerifyTOC(toc); err != nil {
			return err
		}
	}
	root, ok := reader.Lookup("")
	if !ok {
		return fmt.Errorf("there is no root")
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return walk(reader, verifier, out, "", root)
}

// digests verifies chunks by what the TOC says of each.
type digests struct{}

func (digests) Verifier(entry *estargz.TOCEntry) (digest.Verifier, error) {
	expected, err := digest.Parse(entry.ChunkDigest)
	if err != nil {
		return nil, err
	}
	return expected.Verifier(), nil
}

func walk(reader *estargz.Reader, verifier estargz.TOCEntryVerifier, out *json.Encoder, name string, entry *estargz.TOCEntry) error {
	told := line{
		Name: name, Type: entry.Type, Mode: entry.Mode, Size: entry.Size, ModTime: entry.ModTime().UnixNano(),
		UID: entry.UID, GID: entry.GID, DevMajor: entry.DevMajor, DevMinor: entry.DevMinor,
		Xattrs: entry.Xattrs, Links: entry.NumLink,
	}
	if entry.Type == "symlink" {
		told.Link = entry.LinkName
	}
	if entry.Type == "reg" {
		told.FirstName = entry.Name
		sum, err := content(reader, verifier, entry)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		told.SHA256 = sum
	}
	if err := out.Encode(told); err != nil {
		return err
	}
	children := map[string]*estargz.TOCEntry{}
	names := []string{}
	entry.ForeachChild(func(base string, child *estargz.TOCEntry) bool {
		children[base] = child
		names = append(names, base)
		return true
	})
	sort.Strings(names)
	for _, base := range names {
		if err := walk(reader, verifier, out, path.Join(name, base), children[base]); err != nil {
			return err
		}
	}
	return nil
}

// content reads a file chunk by chunk as a snapshotter does, holds each against its digest, and gives the SHA-256 of the whole.
func content(reader *estargz.Reader, verifier estargz.TOCEntryVerifier, entry *estargz.TOCEntry) (string, error) {
	whole := sha256.New()
	if entry.Size > 0 {
		file, err := reader.OpenFile(entry.Name)
		if err != nil {
			return "", err
		}
		for at := int64(0); at < entry.Size; {
			chunk, ok := reader.ChunkEntryForOffset(entry.Name, at)
			if !ok {
				return "", fmt.Errorf("no chunk at %d", at)
			}
			check, err := verifier.Verifier(chunk)
			if err != nil {
				return "", err
			}
			part := io.NewSectionReader(file, chunk.ChunkOffset, chunk.ChunkSize)
			if _, err := io.Copy(io.MultiWriter(check, whole), part); err != nil {
				return "", err
			}
			if !check.Verified() {
				return "", fmt.Errorf("the chunk at %d is not what its digest says", at)
			}
			at = chunk.ChunkOffset + chunk.ChunkSize
		}
	}
	sum := hex.EncodeToString(whole.Sum(nil))
	if entry.Digest != "sha256:"+sum {
		return "", fmt.Errorf("its bytes hash to %s, not %s", sum, entry.Digest)
	}
	return sum, nil
}

func build(tar, name string, rest []string) error {
	options := []estargz.Option{}
	for number, text := range rest {
		value, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		switch number {
		case 0:
			options = append(options, estargz.WithChunkSize(value))
		case 1:
			options = append(options, estargz.WithMinChunkSize(value))
		}
	}
	bytes, err := section(tar)
	if err != nil {
		return err
	}
	blob, err := estargz.Build(bytes, options...)
	if err != nil {
		return err
	}
	defer blob.Close()
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, blob); err != nil {
		return err
	}
	fmt.Println(blob.TOCDigest())
	return file.Close()
}
