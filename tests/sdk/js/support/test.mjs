// node:test with a limit for every test and every hook: one that takes longer has failed, by its name, and the next one runs.
import * as runner from "node:test";

const limit = { timeout: 60_000 };

export const { describe } = runner;
export const test = (name, body) => runner.test(name, limit, body);
export const before = (body) => runner.before(body, limit);
export const after = (body) => runner.after(body, limit);

// What a failed test left open would keep the file from ending.
runner.after(() => {
  setTimeout(() => {
    console.error("the tests are over, and something that they started is not");
    process.exit(1);
  }, 10_000).unref();
});
