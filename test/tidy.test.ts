/** Style as a test: the whole tree against the rules of tidy.ts, and each rule against a breach. */

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { functionsOf, hot } from "./functions.ts";
import * as tidy from "./tidy.ts";
import type { Rule, SourceFile } from "./tidy.ts";

const ROOT = join(import.meta.dir, "..");
const { imports, lineLengths, sizes, names, openings, mirrors, leftovers, foreign, mentions } =
  tidy;
const RULES = {
  imports,
  lineLengths,
  sizes,
  names,
  openings,
  mirrors,
  leftovers,
  foreign,
  mentions,
};

/** What is under version control, or would be after `git add`; every text when there is no git. */
function tree(): SourceFile[] {
  const git = Bun.spawnSync(["git", "ls-files", "-co", "--exclude-standard"], { cwd: ROOT });
  const paths = git.success
    ? git.stdout.toString().trim().split("\n")
    : [...new Bun.Glob("{ffi,src,targets,test}/**/*.ts").scanSync({ cwd: ROOT })];
  return paths.filter(isText).map((path) => ({ path, text: textOf(path) }));
}

const textOf = (path: string): string => readFileSync(join(ROOT, path), "utf8");

function isText(path: string): boolean {
  const file = join(ROOT, path);
  return existsSync(file) && !readFileSync(file).subarray(0, 8192).includes(0);
}

const files = tree();

test.each([...Object.entries(RULES), ["hot", hot] as [string, Rule]])("the tree: %s", (_, rule) => {
  const complaints = files.flatMap((file) =>
    rule(file).map((complaint) => `${file.path}: ${complaint}`),
  );
  expect(complaints).toEqual([]);
});

test("the tree is there to be looked at", () => {
  expect(files.length).toBeGreaterThan(100);
  expect(files.filter(({ text }) => text.startsWith("// hot\n")).length).toBeGreaterThan(5);
  expect(files.flatMap((file) => functionsOf(file)).length).toBeGreaterThan(500);
});

/** What a rule says of a snippet at a path. */
const said = (rule: Rule, path: string, text: string): string => rule({ path, text }).join("; ");

describe("a breach is found:", () => {
  const from = (specifier: string): string => `import { x } from "${specifier}";\n`;
  test.each([
    ["ffi/libc.ts", "../src/target/parse.ts"],
    ["src/target/parse.ts", "../queue/io.ts"],
    ["src/queue/loop.ts", "../control/device.ts"],
    ["src/queue/loop.ts", "../../targets/loop.ts"],
    ["src/control/device.ts", "../cli/print.ts"],
    ["src/cli/add.ts", "../../ffi/libc.ts"],
    ["src/cli/add.ts", "../queue/io.ts"],
    ["src/cli/add.ts", "../main.ts"],
    ["targets/loop.ts", "./null.ts"],
    ["targets/loop.ts", "../ffi/libc.ts"],
    ["targets/loop.ts", "./qcow2/header.ts"],
    ["targets/qcow2/header.ts", "../loop.ts"],
    ["src/worker.ts", "../test/temp.ts"],
    ["src/queue/loop.ts", "citty"],
    ["src/cli/add.ts", "left-pad"],
  ])("%s imports %s", (path, specifier) => {
    expect(said(imports, path, from(specifier))).toContain("import");
    expect(said(imports, path, `const y = await import("${specifier}");`)).toContain("import");
    expect(said(imports, path, `import "${specifier}";`)).toContain("import");
  });

  test.each([
    ["ffi/libc.ts", "./errno.ts"],
    ["src/cli/add.ts", "../control/device.ts"],
    ["src/cli/add.ts", "citty"],
    ["src/queue/io.ts", "../../ffi/io_uring.ts"],
    ["src/worker.ts", "../targets/index.ts"],
    ["targets/index.ts", "./loop.ts"],
    ["targets/qcow2/header.ts", "./format.ts"],
    ["targets/loop.ts", "../src/target/parse.ts"],
    ["targets/loop.ts", "node:path"],
    ["test/sim/world.ts", "../../src/queue/io.ts"],
  ])("none where %s imports %s", (path, specifier) => {
    expect(said(imports, path, from(specifier))).toBe("");
  });

  const longFunction = `export function f(): void {\n${"  g();\n".repeat(59)}}\n`;
  const hotBody = (line: string): string => `// hot\nfunction f(): void {\n  ${line}\n}\n`;
  const cases: [what: string, rule: Rule, path: string, text: string, complaint: string][] = [
    ["a long line", lineLengths, "a.ts", `// ${"x".repeat(98)}`, "101 characters"],
    ["a long comment", lineLengths, "a.ts", ` * \`${"x".repeat(98)}\``, "103 characters"],
    ["a comment behind code", lineLengths, "a.ts", `x; // \`${"x".repeat(98)}\``, "106 char"],
    ["a long file", sizes, "a.ts", "x;\n".repeat(500), "501 lines"],
    ["a long function", sizes, "a.ts", longFunction, "f (line 1) has 61 lines"],
    ["camelCase", names, "src/ioCopy.ts", "", "snake_case"],
    ["hyphens", names, "src/io-copy.ts", "", "snake_case"],
    ["no opening", openings, "a.ts", "const a = 1;\n", "does not open"],
    ["no sentence", openings, "a.ts", "/** words */\n", "does not open"],
    ["an orphan", mirrors, "test/src/queue/nothing.test.ts", "", "has no src/queue/nothing.ts"],
    ["work left over", leftovers, "a.ts", `// ${["TO", "DO"].join("")}: later`, "left over"],
    ["a home", foreign, "a.md", `see ${["", "home", "me", "x"].join("/")}`, "home directory"],
    ["root's home", foreign, "a.md", `see ${["", "root", "x"].join("/")}`, "home directory"],
    ["an archive", foreign, "a.md", ["deb", "debian", "org"].join("."), "archive"],
    ["a registry", foreign, "a.md", ["registry", "npmjs", "org"].join("."), "registry"],
    ["a missing file", mentions, "a.md", "see `src/queue/nothing.ts`", "not there"],
  ];
  test.each(cases)("%s", (_, rule, path, text, complaint) => {
    expect(said(rule, path, text)).toContain(complaint);
  });

  test.each([
    ["async", "const f = async () => g();"],
    ["async", "await g();"],
    ["BigInt", "x = BigInt(y);"],
    ["BigInt", "x = 12n;"],
    ["new", "const x = new Y();"],
    ["spread", "g(...x);"],
    ["template string", "g(`x`);"],
    ["Map or Set", "x = Map.groupBy(y, z);"],
    ["for…of", "for (const x of y) g(x);"],
    ["try", "try {"],
    ["object literal", "g({ x });"],
    ["object literal", "return { x };"],
    ["object literal", "const x = {"],
    ["array literal", "const x = [1];"],
    ["array literal", "g(x, [y]);"],
  ])("%s in a hot file: %s", (what, line) => {
    expect(said(hot, "src/queue/a.ts", hotBody(line))).toContain(`${what} in f`);
    expect(said(hot, "src/queue/a.ts", hotBody(line).replace("// hot\n", ""))).toBe("");
    expect(said(hot, "src/queue/a.ts", hotBody(`${line} // once`))).toBe("");
  });

  test.each(["x[y] = z[0]!;", "if (x) {", "const { y } = x;", 'g("new [");', "// new {}"])(
    "none in a hot file: %s",
    (line) => {
      expect(said(hot, "src/queue/a.ts", hotBody(line))).toBe("");
    },
  );

  test("none in a hot file's constructors and fields", () => {
    const text =
      "// hot\nclass A {\n  x = new B();\n  constructor() {\n    this.y = [1];\n  }\n}\n";
    expect(said(hot, "src/queue/a.ts", text)).toBe("");
  });
});

test("functions are found by name, with their length", () => {
  const text = [
    "export async function one(",
    "  a: number,",
    "): Promise<void> {",
    "  if (a) {",
    "    g();",
    "  }",
    "}",
    "class A {",
    "  static get two(): number {",
    "    return 2;",
    "  }",
    "  #three() {",
    "    g(() => {",
    "      h();",
    "    });",
    "  }",
    "}",
    "const four = (a: number): number => {",
    "  return a;",
    "};",
  ].join("\n");
  const found = functionsOf({ path: "a.ts", text }).map(({ name, length }) => [name, length]);
  expect(found).toEqual([
    ["one", 7],
    ["two", 3],
    ["#three", 5],
    ["a callback", 3],
    ["four", 3],
  ]);
});
