// How long to wait before another try.

/** Waits that double from the first to the longest. Each is a random part of its length, so that consumers that lost
 * the same service do not come back at the same moment. */
export class Backoff {
  private failures = 0;

  constructor(private readonly secondsFirst = 0.1, private readonly secondsMax = 30) {}

  /** Begin again with the first wait, after a success. */
  reset(): void {
    this.failures = 0;
  }

  /** The wait after one more failure. */
  nextWaitSeconds(): number {
    const longest = Math.min(this.secondsMax, this.secondsFirst * 2 ** Math.min(this.failures, 60));
    this.failures += 1;
    return Math.random() * longest;
  }

  /** Wait after one more failure, at least `secondsMin`; not longer than until `signal` is aborted. */
  async wait(signal: AbortSignal, secondsMin = 0): Promise<void> {
    await sleep(Math.max(secondsMin, this.nextWaitSeconds()), signal);
  }
}

/** Wait, but not longer than until `signal` is aborted. */
export function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end);
  });
}
