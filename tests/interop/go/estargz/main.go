// Estargz drives containerd's library over archives, for the tests of sapwood.
//
//	estargz read [-toc FILE] [-shared] ARCHIVE DIGEST   every entry as a line of JSON, in order of names; every file is read and
//	                                                    held against the TOC, and that against its digest; -shared of one whose
//	                                                    chunks share members: the library's verifier takes none of those, its
//	                                                    own included, so chunks are held against the digests in the TOC
//	estargz open ARCHIVE DIGEST                         its TOC, and holds that against its digest
//	estargz build [OPTIONS] TAR ARCHIVE                 prints the TOC's digest
//
// Not here: what is expected of either.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/externaltoc"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
)

type line struct {
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Mode     int64             `json:"mode"`
	Size     int64             `json:"size"`
	ModTime  [2]int64          `json:"mtime"` // seconds, nanoseconds
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Link     string            `json:"link,omitempty"`
	DevMajor int               `json:"dev_major,omitempty"`
	DevMinor int               `json:"dev_minor,omitempty"`
	Xattrs   map[string][]byte `json:"xattrs,omitempty"`
	Links    int               `json:"links"`
	SHA256   string            `json:"sha256,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "estargz:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "read" {
		return read(args[1:])
	}
	if len(args) > 0 && args[0] == "build" {
		return build(args[1:])
	}
	if len(args) > 0 && args[0] == "open" {
		return open(args[1:])
	}
	return fmt.Errorf("read, open or build")
}

// parse reads options, and requires two arguments behind them.
func parse(options *flag.FlagSet, args []string) (string, string, error) {
	if err := options.Parse(args); err != nil {
		return "", "", err
	}
	if options.NArg() != 2 {
		return "", "", fmt.Errorf("%s wants two arguments", options.Name())
	}
	return options.Arg(0), options.Arg(1), nil
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

func open(args []string) error {
	name, expected, err := parse(flag.NewFlagSet("open", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	bytes, err := section(name)
	if err != nil {
		return err
	}
	reader, err := estargz.Open(bytes, estargz.WithDecompressors(new(zstdchunked.Decompressor)))
	if err != nil {
		return err
	}
	_, err = reader.VerifyTOC(digest.Digest(expected))
	return err
}

func read(args []string) error {
	options := flag.NewFlagSet("read", flag.ContinueOnError)
	toc := options.String("toc", "", "where the TOC is, if it is in a file of its own")
	shared := options.Bool("shared", false, "chunks share members")
	name, expected, err := parse(options, args)
	if err != nil {
		return err
	}
	bytes, err := section(name)
	if err != nil {
		return err
	}
	decompressors := []estargz.Decompressor{new(zstdchunked.Decompressor)}
	if *toc != "" {
		decompressors = append(decompressors, externaltoc.NewGzipDecompressor(func() ([]byte, error) { return os.ReadFile(*toc) }))
	}
	reader, err := estargz.Open(bytes, estargz.WithDecompressors(decompressors...))
	if err != nil {
		return err
	}
	if reader.TOCDigest().String() != expected {
		return fmt.Errorf("the TOC hashes to %s, not %s", reader.TOCDigest(), expected)
	}
	var verifier estargz.TOCEntryVerifier = digests{}
	if !*shared {
		if verifier, err = reader.VerifyTOC(reader.TOCDigest()); err != nil {
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
		Name: name, Type: entry.Type, Mode: entry.Mode, Size: entry.Size,
		ModTime: [2]int64{entry.ModTime().Unix(), int64(entry.ModTime().Nanosecond())},
		UID:     entry.UID, GID: entry.GID, DevMajor: entry.DevMajor, DevMinor: entry.DevMinor,
		Xattrs: entry.Xattrs, Links: entry.NumLink,
	}
	if entry.Type == "symlink" {
		told.Link = entry.LinkName
	}
	if entry.Type == "reg" {
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
			// In one piece: each call decompresses from where the member begins.
			part := make([]byte, chunk.ChunkSize)
			if _, err := file.ReadAt(part, chunk.ChunkOffset); err != nil && err != io.EOF {
				return "", err
			}
			check.Write(part)
			whole.Write(part)
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

func build(args []string) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	chunk := flags.Int("chunk-size", 0, "plain bytes of a chunk at most")
	least := flags.Int("min-chunk-size", 0, "plain bytes that chunks share a member up to")
	first := flags.String("prioritize", "", "names of files that come first, with commas between")
	external := flags.String("toc", "", "where to write the TOC, if into a file of its own")
	asZstd := flags.Bool("zstd", false, "zstd instead of gzip")
	tar, name, err := parse(flags, args)
	if err != nil {
		return err
	}
	options := []estargz.Option{estargz.WithChunkSize(*chunk), estargz.WithMinChunkSize(*least)}
	if *first != "" {
		options = append(options, estargz.WithPrioritizedFiles(strings.Split(*first, ",")))
	}
	outside := externaltoc.NewGzipCompressor()
	if *external != "" {
		options = append(options, estargz.WithCompression(split{outside, externaltoc.NewGzipDecompressor(nil)}))
	}
	if *asZstd {
		options = append(options, estargz.WithCompression(frames{&zstdchunked.Compressor{CompressionLevel: zstd.SpeedDefault}, &zstdchunked.Decompressor{}}))
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
	if err := write(name, func(file io.Writer) error { _, err := io.Copy(file, blob); return err }); err != nil {
		return err
	}
	if *external != "" {
		if err := write(*external, func(file io.Writer) error { _, err := outside.WriteTOCTo(file); return err }); err != nil {
			return err
		}
	}
	fmt.Println(blob.TOCDigest())
	return nil
}

// split has its TOC in a file of its own.
type split struct {
	*externaltoc.GzipCompressor
	*externaltoc.GzipDecompressor
}

// frames is zstd:chunked as this library writes it.
type frames struct {
	*zstdchunked.Compressor
	*zstdchunked.Decompressor
}

func write(name string, content func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := content(file); err != nil {
		return err
	}
	return file.Close()
}
