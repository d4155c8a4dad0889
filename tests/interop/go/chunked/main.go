// Chunked drives the reader and the writer of zstd:chunked that podman, buildah and skopeo share, for the tests of sapwood.
//
//	chunked apply ARCHIVE DIR    unpacks into DIR as a partial pull does; stdin has the layer's annotations; prints digests of
//	                             the TOC and of the tar that it would give back, and ranges and bytes it asked for
//	chunked build TAR ARCHIVE    prints the annotations
//
// Not here: images, registries and stores of layers; what is expected of either.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/chunked"
	"github.com/containers/storage/pkg/chunked/compressor"
	digest "github.com/opencontainers/go-digest"
)

type applied struct {
	TOC    digest.Digest `json:"toc"`
	Tar    digest.Digest `json:"tar"`
	Size   int64         `json:"size"`
	Ranges int           `json:"ranges"`
	Bytes  uint64        `json:"bytes"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chunked:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && args[0] == "apply" {
		return apply(args[1], args[2])
	}
	if len(args) == 3 && args[0] == "build" {
		return build(args[1], args[2])
	}
	return fmt.Errorf("apply ARCHIVE DIR, or build TAR ARCHIVE")
}

// none is a store without layers: nothing is found there, all is fetched.
type none struct {
	storage.Store
	digests bool
	work    string
}

type driver struct{ graphdriver.DriverWithDiffer }

func (n *none) PullOptions() map[string]string {
	return map[string]string{
		"enable_partial_images":                       "true",
		"insecure_allow_unpredictable_image_contents": fmt.Sprint(!n.digests),
	}
}
func (n *none) GraphDriver() (graphdriver.Driver, error) { return driver{}, nil }
func (n *none) Layers() ([]storage.Layer, error)         { return nil, nil }
func (n *none) RunRoot() string                          { return n.work }

// source gives ranges of a file, and counts them.
type source struct {
	file   *os.File
	ranges int
	bytes  uint64
}

func (s *source) GetBlobAt(chunks []chunked.ImageSourceChunk) (chan io.ReadCloser, chan error, error) {
	streams, errs := make(chan io.ReadCloser), make(chan error)
	for _, chunk := range chunks {
		s.ranges++
		s.bytes += chunk.Length
	}
	go func() {
		for _, chunk := range chunks {
			streams <- io.NopCloser(io.NewSectionReader(s.file, int64(chunk.Offset), int64(chunk.Length)))
		}
		close(streams)
		close(errs)
	}()
	return streams, errs, nil
}

func apply(name, directory string) error {
	annotations := map[string]string{}
	if err := json.NewDecoder(os.Stdin).Decode(&annotations); err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	sum, err := digest.FromReader(file)
	if err != nil {
		return err
	}
	// Only layers with tar-split data have a digest of their tar.
	_, digests := annotations["io.github.containers.zstd-chunked.tarsplit-position"]
	bytes := &source{file: file}
	differ, err := chunked.NewDiffer(context.Background(), &none{digests: digests, work: directory}, sum, stat.Size(), annotations, bytes)
	if err != nil {
		return err
	}
	defer differ.Close()
	out, err := differ.ApplyDiff(directory, &archive.TarOptions{}, &graphdriver.DifferOptions{})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(applied{out.TOCDigest, out.UncompressedDigest, out.Size, bytes.ranges, bytes.bytes})
}

func build(tar, name string) error {
	in, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	annotations := map[string]string{}
	level := 3
	writer, err := compressor.ZstdCompressor(out, annotations, &level)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, in); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(annotations)
}
