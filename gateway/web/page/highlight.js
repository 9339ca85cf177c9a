// Colours for code, without a parser: comments, strings, numbers and the words that a language
// keeps for itself. The text is the same as before, in spans.

const words = {
  json: "true|false|null",
  js: "import|from|export|const|let|var|function|async|await|return|if|else|for|of|in|new|class|try|catch|throw|typeof|while|break|continue|null|true|false|undefined",
  py: "import|from|as|def|async|await|return|if|elif|else|for|in|while|with|try|except|raise|class|not|and|or|is|None|True|False|break|continue|pass",
  go: "package|import|func|return|if|else|for|range|var|const|type|struct|map|chan|go|defer|select|switch|case|break|continue|nil|true|false",
  sh: "curl|sluice|npx|node|python3|go",
};
const comments = { js: "//[^\\n]*", go: "//[^\\n]*", py: "#[^\\n]*", sh: "(?<=^|\\s)#[^\\n]*" };

// colour returns nodes that show the code.
export function colour(code, language) {
  const pattern = new RegExp([
    `(?<comment>${comments[language] ?? "(?!)"})`,
    "(?<string>\"(?:[^\"\\\\\\n]|\\\\.)*\"|'(?:[^'\\\\\\n]|\\\\.)*'|`(?:[^`\\\\]|\\\\.)*`)",
    `(?<word>(?<![\\w.$-])(?:${words[language] ?? "(?!)"})(?![\\w-]))`,
    "(?<number>(?<![\\w.])-?\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?(?![\\w.]))",
  ].join("|"), "gm");
  const nodes = [];
  let end = 0;
  for (const match of code.matchAll(pattern)) {
    nodes.push(code.slice(end, match.index));
    let kind = Object.keys(match.groups).find((k) => match.groups[k] !== undefined);
    end = match.index + match[0].length;
    if (language === "json" && kind === "string" && /^\s*:/.test(code.slice(end, end + 20))) kind = "key";
    const span = document.createElement("span");
    span.className = `c-${kind}`;
    span.textContent = match[0];
    nodes.push(span);
  }
  nodes.push(code.slice(end));
  return nodes;
}

// isJSON reports whether a text is an object or an array of JSON.
export function isJSON(text) {
  if (!/^\s*[[{]/.test(text) || text.length > 20_000) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
