/** Files that are no qcow2 image: raw, or of a format that others know by how it begins. */

import { ImageError, isQcow2 } from "./header.ts";

interface Format {
  name: string;
  /** Byte of the file where the magic is; 0 unless it is said. */
  at?: number;
  magic: string;
  /** Instead of the way out that all have. */
  hint?: string;
}

/** As qemu's own drivers look for them (`*_probe` in its block/). */
const FORMATS: Format[] = [
  { name: "VMDK", magic: "KDMV" },
  { name: "VMDK", magic: "COWD" },
  { name: "VMDK", magic: "# Disk DescriptorFile" },
  { name: "VDI", at: 0x40, magic: "\x7f\x10\xda\xbe" },
  { name: "VHD", magic: "conectix" },
  { name: "VHDX", magic: "vhdxfile" },
  { name: "QED", magic: "QED\0" },
  { name: "Parallels", magic: "WithoutFreeSpace" },
  { name: "Parallels", magic: "WithouFreSpacExt" },
  {
    name: "LUKS",
    magic: "LUKS\xba\xbe",
    hint: "-t loop serves it as it is, and cryptsetup opens that",
  },
];

function foreignFormat(bytes: Uint8Array): Format | undefined {
  return FORMATS.find(({ at = 0, magic }) =>
    [...magic].every((letter, index) => bytes[at + index] === letter.charCodeAt(0)),
  );
}

/** Whether nothing in these first bytes says otherwise. */
export function looksRaw(bytes: Uint8Array): boolean {
  return !isQcow2(bytes) && foreignFormat(bytes) === undefined;
}

/** `first`: it is what somebody typed, and no backing file. */
export function otherFormat(path: string, bytes: Uint8Array, first: boolean): ImageError {
  const format = foreignFormat(bytes);
  if (format !== undefined) {
    const hint = format.hint ?? "qemu-img convert makes a qcow2 image of it";
    return new ImageError(path, `has no qcow2 magic: it is ${format.name}`, hint);
  }
  if (!first) return new ImageError(path, "has no qcow2 magic");
  const empty = "an empty file is made an image by qemu-img create -f qcow2";
  const hint = bytes.length === 0 ? empty : "a raw image is served by -t loop";
  return new ImageError(path, "has no qcow2 magic", hint);
}
