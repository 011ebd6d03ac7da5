// The way of somebody who looks for a call: sign in, find it, hear it, look at what is live.
//
//   BASE_URL=http://127.0.0.1:8080 LOGIN=admin PASSWORD=… OUT=/tmp/shots node journey.mjs
//
// Needs a server with at least one playable call of two seconds or more. Where the password was
// given out by the system it is changed to NEW_PASSWORD. Prints one JSON object; exits with 1 if
// a check failed. With SIP and LINEKEEPER_BIN it places a call there and listens to it.
// Screenshots of every page in light, dark and narrow go to OUT.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { accessibilityProblems, audio, open, until } from "./browser.mjs";

const base = need("BASE_URL").replace(/\/$/, "");
const login = need("LOGIN");
let password = need("PASSWORD");
const newPassword = process.env.NEW_PASSWORD ?? "four words to remember";
const out = process.env.OUT;
if (out) mkdirSync(out, { recursive: true });

const { context, page, problems, close } = await open();
const checks = [];
const measured = {};

/** Runs one check. What follows mostly needs what came before, so the first failure ends it. */
async function check(name, run) {
  const started = Date.now();
  try {
    await run();
    checks.push({ name, ok: true, ms: Date.now() - started });
  } catch (error) {
    if (out) await page.screenshot({ path: join(out, "failed.png") }).catch(() => {});
    checks.push({ name, ok: false, ms: Date.now() - started, error: error.message });
    throw error;
  }
}

/** The page as it stands: without a finding of axe-core in either theme, and fit for 320 px. */
async function look(name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(150);
    if (out) await page.screenshot({ path: join(out, `${name}-${colorScheme}.png`) });
    assert.deepEqual(await accessibilityProblems(page), [], `${name}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 320, height: 640 });
  await page.waitForTimeout(150);
  if (out) await page.screenshot({ path: join(out, `${name}-narrow.png`) });
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.ok(overflow <= 0, `${name} is ${overflow} px wider than a screen of 320 px`);
  assert.deepEqual(await accessibilityProblems(page), [], `${name}, narrow`);
  await page.setViewportSize({ width: 1280, height: 800 });
}

async function fillSignIn(withPassword) {
  await page.getByLabel("Login").fill(login);
  await page.getByLabel("Password", { exact: true }).fill(withPassword);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function hears(atLeastSecs = 0.3) {
  const before = (await audio(page)).at;
  await until("the audio moves on", async () => {
    const now = await audio(page);
    assert.equal(now.error, null);
    return !now.paused && now.duration > 0 && now.at >= before + atLeastSecs;
  });
  return (await audio(page)).duration;
}

let failure = null;
try {
  await check("a link to a search survives signing in", async () => {
    await page.goto(`${base}/recordings?from=now-30d`);
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await look("sign-in");
    await fillSignIn("certainly not the password");
    await page.getByRole("alert").filter({ hasText: "do not match" }).waitFor();
    await fillSignIn(password);
    await Promise.race([
      page.getByRole("heading", { name: "Choose a password" }).waitFor(),
      page.getByRole("heading", { name: "Recordings" }).waitFor(),
    ]);
    if (await page.getByRole("heading", { name: "Choose a password" }).isVisible()) {
      await page.getByLabel("Password you were given").fill(password);
      await page.getByLabel("New password", { exact: true }).fill(newPassword);
      await page.getByLabel("New password again").fill(newPassword);
      await page.getByRole("button", { name: "Save and continue" }).click();
      password = newPassword;
    }
    await page.getByRole("heading", { name: "Recordings" }).waitFor();
    assert.equal(new URL(page.url()).search, "?from=now-30d");
  });

  await check("the list shows calls and keeps few of them in the document", async () => {
    await page.locator(".list tbody tr .play").first().waitFor({ timeout: 60_000 });
    const rows = await page.locator(".list tbody tr:not(.blank)").count();
    assert.ok(rows > 0 && rows <= 60, `${rows} rows`);
    assert.match(await page.getByRole("status").first().innerText(), /\d\+? calls?/);
    await look("recordings");
  });

  await check("the keyboard goes through the list and plays from it", async () => {
    await page.keyboard.press("j");
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute("href"));
    const first = await until("a row has the focus", async () => {
      const href = await focused();
      return href?.startsWith("/recordings/") && href;
    });
    if ((await page.locator(".list tbody tr:not(.blank)").count()) > 1) {
      await page.keyboard.press("j");
      await until("the next row has it", async () => (await focused()) !== first);
      await page.keyboard.press("End");
      await page.keyboard.press("Home");
      await until("the first row has it", async () => (await focused()) === first);
    }
    await toPlayableRow();
    await page.keyboard.press("Space");
    measured.duration_secs = await hears();
    await page.getByRole("region", { name: "Player" }).waitFor();
    await look("dock");
    await page.keyboard.press("Escape");
    await page.getByRole("region", { name: "Player" }).waitFor({ state: "detached" });
  });

  await check("search and help are one key away", async () => {
    await page.keyboard.press("/");
    const search = page.getByRole("searchbox");
    await until("the search has the focus", () =>
      search.evaluate((it) => it === document.activeElement));
    await search.fill("agnet:nobody");
    await page.getByRole("alert").filter({ hasText: "is not a filter" }).waitFor();
    await search.fill("no call has this in it");
    await page.getByRole("heading", { name: "No calls match" }).waitFor();
    assert.equal(new URL(page.url()).searchParams.get("q"), "no call has this in it");
    await look("no-match");
    await search.fill("");
    await page.locator(".list tbody tr .play").first().waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.getByRole("heading", { name: "Keys" }).waitFor();
    assert.deepEqual(await accessibilityProblems(page), []);
    await page.keyboard.press("Escape");
    await page.getByRole("heading", { name: "Keys" }).waitFor({ state: "hidden" });
  });

  await check("a call opens and plays", async () => {
    await page.keyboard.press("j");
    await toPlayableRow();
    await page.keyboard.press("Enter");
    await page.locator(".timeline canvas").first().waitFor();
    measured.lanes = await page.locator(".lane").count();
    assert.ok(measured.lanes > 0);
    await until("the waveform is drawn", () =>
      page.locator(".wave-rest").first().evaluate((it) => {
        const pixels = it.getContext("2d").getImageData(0, 0, it.width, it.height).data;
        let drawn = 0;
        for (let at = 3; at < pixels.length; at += 4) drawn += pixels[at] > 0 ? 1 : 0;
        return drawn > it.width * 1.2;
      }));
    await page.getByRole("button", { name: "Play", exact: true }).click();
    assert.ok((await hears()) > 0);
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    const slider = page.getByRole("slider", { name: "Position in the call" });
    await slider.press("Home");
    await until("the slider says so", async () =>
      (await slider.getAttribute("aria-valuenow")) === "0");
    await slider.press("End");
    assert.match(await slider.getAttribute("aria-valuetext"), /of .*second/);
    const lane = page.locator(".axis").first();
    const width = (await lane.boundingBox()).width;
    await lane.click({ position: { x: width / 2, y: 20 } });
    const half = (await audio(page)).duration / 2;
    await until("a press on the lane seeks", async () =>
      Math.abs((await audio(page)).at - half) < 0.2 + half / 50);
    await look("call");
    await page.getByText("SIPREC metadata as received").click();
    await page.locator(".raw pre, .raw p").first().waitFor();
    assert.deepEqual(await accessibilityProblems(page), [], "call with its metadata");
    if (out) await page.screenshot({ path: join(out, "call-whole.png"), fullPage: true });
  });

  await check("going back finds the list as it was left", async () => {
    await page.keyboard.press("Escape");
    await page.getByRole("heading", { name: "Recordings" }).waitFor();
    await until("the row has the focus again", () =>
      page.evaluate(() => Boolean(document.activeElement?.closest(".list tbody tr"))));
    await page.keyboard.press("Enter");
    await page.locator(".timeline").waitFor();
  });

  await check("a call that is left before it is drawn breaks nothing", async () => {
    await page.keyboard.press("Escape");
    await page.locator(".list tbody tr .play").first().waitFor();
    for (let round = 0; round < 3; round += 1) {
      await page.evaluate(() => new Promise((resolve) => {
        const observer = new MutationObserver(() => {
          if (!document.querySelector(".wave-rest")) return;
          observer.disconnect();
          document.querySelector("a[href='/live']").click();
          resolve();
        });
        observer.observe(document.body, { subtree: true, childList: true });
        document.querySelector(".list tbody a[href^='/recordings/']").click();
      }));
      await page.getByRole("status").filter({ hasText: "in progress" }).waitFor();
      assert.deepEqual(problems, []);
      await page.goBack();
      await page.locator(".timeline").waitFor();
      await page.keyboard.press("Escape");
      await page.locator(".list tbody tr .play").first().waitFor();
    }
    await page.keyboard.press("j");
    await toPlayableRow();
    await page.keyboard.press("Enter");
    await page.locator(".timeline").waitFor();
  });

  await check("an ended session keeps the page beneath", async () => {
    const address = page.url();
    await page.goto(address);
    await page.locator(".timeline").waitFor();
    await context.clearCookies();
    await page.getByRole("link", { name: "Live" }).click();
    await page.getByRole("heading", { name: "Your session has ended" }).waitFor();
    assert.deepEqual(await accessibilityProblems(page), [], "session overlay");
    if (out) await page.screenshot({ path: join(out, "expired-light.png") });
    await fillSignIn(password);
    await page.getByRole("heading", { name: "Your session has ended" }).waitFor({ state: "hidden" });
    assert.equal(new URL(page.url()).pathname, "/live");
  });

  await check("the live page and the health page answer", async () => {
    await page.getByRole("status").filter({ hasText: "in progress" }).waitFor();
    await look("live");
    await page.getByRole("link", { name: "Health" }).click();
    await page.locator(".verdict").waitFor();
    await look("health");
  });

  if (process.env.SIP) await check("a call in progress is listened to, and gone back in", async () => {
    const call = spawn(need("LINEKEEPER_BIN"), ["call", process.env.SIP, "--seconds", "25"]);
    const over = new Promise((resolve) => call.on("exit", resolve));
    await page.getByRole("link", { name: "Live" }).click();
    await page.getByRole("button", { name: "Listen" }).first().click({ timeout: 15_000 });
    const at = async () => {
      const shown = await page.locator(".listen-at").textContent();
      return shown.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
    };
    const passes = async (seconds) => {
      const deadline = Date.now() + 20_000;
      while ((await at()) < seconds) {
        assert.ok(Date.now() < deadline, `heard until ${await at()} s, not ${seconds} s`);
        await page.waitForTimeout(100);
      }
    };
    // It plays on past the end of the first piece.
    await passes(8);
    await page.getByRole("button", { name: "Back 10 seconds" }).click();
    await page.waitForFunction(() => document.querySelector(".listen-at").textContent < "0:05");
    await passes(3);
    assert.equal(await page.getByRole("alert").filter({ hasText: /./ }).count(), 0);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator(".listen-at").waitFor({ state: "detached" });
    assert.equal(await over, 0);
  });

  await check("signing out leaves nothing behind", async () => {
    await page.locator(".menu summary").click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.equal(await page.locator("table").count(), 0);
  });

  await check("nothing went wrong that nobody looked at", async () => {
    assert.deepEqual(problems, []);
  });
} catch (error) {
  failure = error;
}
await close();
console.log(JSON.stringify({ ok: !failure, measured, checks, problems }, null, 2));
process.exit(failure ? 1 : 0);

/** Moves down the list to the first call that can be played. */
async function toPlayableRow() {
  for (let step = 0; step < 20; step += 1) {
    const playable = await page.evaluate(() =>
      Boolean(document.activeElement?.closest("tr")?.querySelector(".play")));
    if (playable) return;
    await page.keyboard.press("j");
    await page.waitForTimeout(100);
  }
  throw new Error("none of the first calls can be played");
}

function need(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
}
