package easypay

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strings"
)

// cardsCSV is KICC's table of window card codes (common codes page) with an English gloss of our own.
//
//go:embed cards.csv
var cardsCSV string

// Card is one row of KICC's window card codes.
type Card struct {
	// Code has 3 characters, some of them letters: it is no number.
	Code string
	// Name is KICC's Korean name.
	Name string
	// English is our gloss of it.
	English string
}

// Cards is KICC's table of window card codes.
type Cards struct {
	byCode map[string]Card
}

// LoadCards reads the table that is shipped with the worker.
func LoadCards() (Cards, error) {
	rows, err := csv.NewReader(strings.NewReader(cardsCSV)).ReadAll()
	if err != nil {
		return Cards{}, fmt.Errorf("easypay: read the card table: %w", err)
	}
	cards := Cards{byCode: make(map[string]Card, len(rows))}
	for _, row := range rows[1:] {
		cards.byCode[row[0]] = Card{Code: row[0], Name: row[1], English: row[2]}
	}
	return cards, nil
}

// CardName returns the card company with the given code, and whether the table has it.
func (c Cards) CardName(code string) (Card, bool) {
	card, ok := c.byCode[code]
	return card, ok
}
