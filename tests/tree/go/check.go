// Checks notes, proofs and tiles with golang.org/x/mod/sumdb, and signs a note with it.
// Reads one JSON document and writes one, in which each failed check has its error.
package main

import (
	"encoding/json"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Index, OldSize, Size int64
	Leaf, OldRoot, Root  tlog.Hash
	Hashes               []tlog.Hash
}

type input struct {
	Key, SecretKey, Text string
	Notes                []string
	Inclusion            []proof
	Consistency          []proof
	Tree                 tlog.Tree
	Tiles                map[string][]byte
	From                 int64 // the leaves to prove from the tiles: from this one on
	Upto                 int64 // up to this one, without it; 0: all
}

type output struct {
	Signed                        string
	Notes, Inclusion, Consistency []string
	Tiles                         string
	Leaves                        []tlog.Hash
	Proofs                        [][]tlog.Hash
}

func (in input) Height() int                     { return 8 }
func (in input) SaveTiles([]tlog.Tile, [][]byte) {}
func (in input) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		data = append(data, in.Tiles[tile.Path()])
	}
	return data, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var in input
	var out output
	must(json.NewDecoder(os.Stdin).Decode(&in))

	signer, err := note.NewSigner(in.SecretKey)
	must(err)
	signed, err := note.Sign(&note.Note{Text: in.Text}, signer)
	must(err)
	out.Signed = string(signed)

	verifier, err := note.NewVerifier(in.Key)
	must(err)
	for _, content := range in.Notes {
		_, err := note.Open([]byte(content), note.VerifierList(verifier))
		out.Notes = append(out.Notes, text(err))
	}
	for _, p := range in.Inclusion {
		out.Inclusion = append(out.Inclusion, text(tlog.CheckRecord(p.Hashes, p.Size, p.Root, p.Index, p.Leaf)))
	}
	for _, p := range in.Consistency {
		out.Consistency = append(out.Consistency, text(tlog.CheckTree(p.Hashes, p.Size, p.Root, p.OldSize, p.OldRoot)))
	}

	reader := tlog.TileHashReader(in.Tree, in)
	if in.Upto == 0 {
		in.Upto = in.Tree.N
	}
	for index := in.From; index < in.Upto && err == nil; index++ {
		var hashes []tlog.Hash
		var found tlog.RecordProof
		if hashes, err = reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)}); err == nil {
			found, err = tlog.ProveRecord(in.Tree.N, index, reader)
			out.Leaves = append(out.Leaves, hashes...)
			out.Proofs = append(out.Proofs, found)
		}
		if err == nil { // before x/mod 0.40.0 the reader leaves some tiles unchecked (CVE-2026-56865)
			err = tlog.CheckRecord(found, in.Tree.N, in.Tree.Hash, index, hashes[0])
		}
	}
	out.Tiles = text(err)
	must(json.NewEncoder(os.Stdout).Encode(out))
}
