// Chromium as the system brings it, driven by playwright-core; no browser is downloaded.

import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** The rules that the product promises to keep. */
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** A page in a browser with a profile of its own, and everything that went wrong in it. */
export async function open() {
  const profile = mkdtempSync(join(tmpdir(), "linekeeper-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    viewport: { width: 1280, height: 800 },
    reducedMotion: "reduce",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=user-gesture-required",
    ],
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(15_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    // Being told that nobody is signed in is how the page finds out.
    const expected = /status of 40[13]/.test(message.text());
    if (message.type() === "error" && !expected) {
      problems.push(`console: ${message.text()} (${message.location().url})`);
    }
  });
  return {
    context,
    page,
    problems,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** What axe-core finds wrong with the page as it stands: one line for each element. */
export async function accessibilityProblems(page) {
  // Evaluated, not added as a script element: the content security policy forbids those.
  if (!(await page.evaluate(() => "axe" in window))) {
    const { readFileSync } = await import("node:fs");
    await page.evaluate(readFileSync(AXE, "utf8"));
  }
  const found = await page.evaluate(
    (rules) => window.axe.run(document, { runOnly: { type: "tag", values: rules } }),
    RULES,
  );
  return found.violations.flatMap((violation) =>
    violation.nodes.map((node) => {
      const why = (node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? violation.help;
      return `${violation.id}: ${node.target.join(" ")}: ${why}`;
    }),
  );
}

/** The state of the one audio element. */
export function audio(page) {
  return page.evaluate(() => {
    const it = document.querySelector("audio");
    return {
      at: it.currentTime,
      duration: it.duration,
      paused: it.paused,
      error: it.error?.message ?? null,
    };
  });
}

/** Waits until `probe` gives something true, and gives that. */
export async function until(what, probe, timeoutMs = 15_000) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`timed out waiting until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
