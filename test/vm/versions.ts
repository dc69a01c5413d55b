// Orders version numbers the way people read them, and finds kernels in a list of package names.

/** Numbers by value, everything else by character: 7.2.9 comes before 7.2.12. */
export function byVersion(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [x = "", y = ""] = [left[i], right[i]];
    const difference = Number(x) - Number(y);
    if (difference) return difference;
    if (Number.isNaN(difference) && x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

export const newest = (names: readonly string[]) => names.toSorted(byVersion).at(-1);

/** Package names of the cloud flavour: small, boots fast, has ublk_drv. */
const CLOUD_KERNEL = /^linux-image-(\d+\.\d+)(\.\d+)?(\+deb\d+)?-cloud-amd64$/;

/** Of all kernel packages the newest of a line such as "7.2"; "rc" takes any line. */
export function newestKernel(names: readonly string[], line: string): string | undefined {
  return newest(
    names.filter((name) => {
      const found = CLOUD_KERNEL.exec(name);
      return found !== null && (line === "rc" || found[1] === line);
    }),
  );
}
