package app

import (
	"discountquery.example/worker/internal/answers"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/sweeper"
)

// expectFigures makes the counts of rare events exist at zero, so that their first one is an increase.
func (a *App) expectFigures() {
	a.metrics.ExpectStore(publish.Exchanges()...)
	a.metrics.ExpectStore(answers.Exchanges()...)
	for _, why := range sweeper.Whys() {
		a.metrics.ExpectSwept(string(why))
	}
	for _, one := range accounts(a.Config.Providers) {
		for _, why := range quota.Whys() {
			a.metrics.ExpectPaceChanges(one.Provider, one.Name, string(why))
		}
	}
}
