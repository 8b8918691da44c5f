// What a search puts first: pages that explain, then the API, then the rest.
const FACTORS = [
  [/^guide\/(dask|onnx|out_of_core|persistence)$/, 2.5],
  [/^(guide\/(?!index)|install$|tutorial$)/, 3],
  [/^faq$/, 2.9],
  [/^generated\//, 1.5],
  [/^(api|auto_examples|benchmarks|changelog|contributing|extending|reproductions)/, 0.5],
];

var Scorer = {
  score: ([page, , , , score]) =>
    score * (FACTORS.find(([pages]) => pages.test(page)) ?? [null, 1])[1],

  // Sphinx' own values, less for names in the code.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 5, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
