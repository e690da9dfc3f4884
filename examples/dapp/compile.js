// Compiles the contracts of this folder; writes solc's JSON to stdout.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const names = ["Answers.sol", "KnownQuotes.sol"];
const sources = Object.fromEntries(
  names.map((name) => [name, { content: fs.readFileSync(path.join(__dirname, name), "utf8") }]),
);
const settings = {
  evmVersion: "shanghai",
  optimizer: { enabled: true, runs: 200 },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
};
const found = (name) => ({ contents: sources[name].content });
const asked = JSON.stringify({ language: "Solidity", sources, settings });
process.stdout.write(solc.compile(asked, { import: found }));
