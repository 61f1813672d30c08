// Renders the page and minifies its script.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { marked } from "marked";
import { minify } from "terser";

mkdirSync("dist", { recursive: true });
const script = await minify(readFileSync("src/page.js", "utf8"), { module: true });
const body = marked.parse(readFileSync("src/page.md", "utf8"));
writeFileSync("dist/page.js", script.code);
writeFileSync("dist/index.html", `<!doctype html>\n${body}<script type="module" src="page.js"></script>\n`);
