// Snapshotter mounts the layers of an image by the file system that containerd's stargz-snapshotter has, for the tests and
// figures of sapwood.
//
//	snapshotter mount HOST/REPOSITORY:TAG DIR    mounts layer N, counted from the lowest, at DIR/N, fetching into DIR/cache; prints
//	                                             a line of JSON, their number and what the image says it runs, when all are
//	                                             there; unmounts them when stdin ends
//
// It does what containerd and its snapshotter do for `ctr-remote image rpull`, with the default settings: the manifest is
// fetched, then each layer is mounted, from the lowest, knowing its neighbours. Registries of this machine are spoken to
// without TLS. Not here: the overlay of the layers, containers, what is expected.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	stargz "github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/layer"
	"github.com/containerd/stargz-snapshotter/fs/source"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type mounted struct {
	Layers int                 `json:"layers"`
	Config ocispec.ImageConfig `json:"config"`
}

func main() {
	if len(os.Args) != 4 || os.Args[1] != "mount" {
		fmt.Fprintln(os.Stderr, "snapshotter: mount HOST/REPOSITORY:TAG DIR")
		os.Exit(2)
	}
	if err := mount(context.Background(), os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "snapshotter:", err)
		os.Exit(1)
	}
}

func mount(ctx context.Context, name, place string) (err error) {
	image, layers, err := resolve(ctx, name)
	if err != nil {
		return err
	}
	system, err := stargz.NewFilesystem(filepath.Join(place, "cache"), config.Config{NoPrometheus: true},
		// As it chooses where overlays are mounted by root.
		stargz.WithOverlayOpaqueType(layer.OverlayOpaqueTrusted))
	if err != nil {
		return err
	}
	done := 0
	defer func() {
		for ; done > 0; done-- {
			at := filepath.Join(place, strconv.Itoa(done-1))
			if failed := system.Unmount(ctx, at); failed != nil && err == nil {
				err = failed
			}
		}
	}()
	for number, described := range layers {
		at := filepath.Join(place, strconv.Itoa(number))
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := system.Mount(ctx, at, described.Annotations); err != nil {
			return fmt.Errorf("layer %d: %w", number, err)
		}
		done++
	}
	// As its snapshotter does before a container begins.
	for number, described := range layers {
		if err := system.Check(ctx, filepath.Join(place, strconv.Itoa(number)), described.Annotations); err != nil {
			return fmt.Errorf("layer %d: %w", number, err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(mounted{len(layers), image.Config}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// resolve gives what the image says of itself, and its layers with the labels by which a snapshotter is told of them.
func resolve(ctx context.Context, name string) (image ocispec.Image, layers []ocispec.Descriptor, err error) {
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost)),
	})
	_, described, err := resolver.Resolve(ctx, name)
	if err != nil {
		return image, nil, err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return image, nil, err
	}
	var manifest ocispec.Manifest
	if err := document(ctx, fetcher, described, &manifest); err != nil {
		return image, nil, err
	}
	if err := document(ctx, fetcher, manifest.Config, &image); err != nil {
		return image, nil, err
	}
	children := append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...)
	labelled := source.AppendDefaultLabelsHandlerWrapper(name, 10<<20)(images.HandlerFunc(
		func(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) { return children, nil },
	))
	children, err = labelled.Handle(ctx, described)
	if err != nil {
		return image, nil, err
	}
	return image, children[1:], nil
}

func document(ctx context.Context, fetcher remotes.Fetcher, described ocispec.Descriptor, into any) error {
	stream, err := fetcher.Fetch(ctx, described)
	if err != nil {
		return err
	}
	defer stream.Close()
	data, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if found := described.Digest.Algorithm().FromBytes(data); found != described.Digest {
		return fmt.Errorf("%s: its bytes hash to %s", described.Digest, found)
	}
	return json.Unmarshal(data, into)
}
