/** A C struct as a table of offsets: encode and decode, for the control path only. */

/** One member: where it is, how wide, and how it is read and written (little endian). */
export interface Field<T> {
  readonly offset: number;
  readonly size: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

type Fields = Record<string, Field<unknown>>;
export type Values<F> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

export interface Struct<F extends Fields> {
  /** The struct's name in the kernel's header. */
  readonly name: string;
  readonly size: number;
  readonly fields: F;
  /** A zeroed struct with the given members set. */
  encode(values: Partial<Values<F>>): Uint8Array<ArrayBuffer>;
  /** Members that are not named keep what is there. */
  write(view: DataView, at: number, values: Partial<Values<F>>): void;
  read(view: DataView, at: number): Values<F>;
  decode(bytes: Uint8Array): Values<F>;
}

export const u8 = (offset: number): Field<number> => ({
  offset,
  size: 1,
  get: (view, at) => view.getUint8(at),
  set: (view, at, value) => view.setUint8(at, value),
});
export const u16 = (offset: number): Field<number> => ({
  offset,
  size: 2,
  get: (view, at) => view.getUint16(at, true),
  set: (view, at, value) => view.setUint16(at, value, true),
});
export const u32 = (offset: number): Field<number> => ({
  offset,
  size: 4,
  get: (view, at) => view.getUint32(at, true),
  set: (view, at, value) => view.setUint32(at, value, true),
});
export const i32 = (offset: number): Field<number> => ({
  offset,
  size: 4,
  get: (view, at) => view.getInt32(at, true),
  set: (view, at, value) => view.setInt32(at, value, true),
});
export const u64 = (offset: number): Field<bigint> => ({
  offset,
  size: 8,
  get: (view, at) => view.getBigUint64(at, true),
  set: (view, at, value) => view.setBigUint64(at, value, true),
});

/** A struct inside a struct. */
export function member<F extends Fields>(
  offset: number,
  inner: Struct<F>,
): Field<Partial<Values<F>>> {
  return {
    offset,
    size: inner.size,
    get: (view, at) => inner.read(view, at),
    set: (view, at, values) => inner.write(view, at, values),
  };
}

export function struct<F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  const write = (view: DataView, at: number, values: Partial<Values<F>>): void => {
    for (const [key, value] of Object.entries(values)) {
      const field = fields[key];
      if (field !== undefined) field.set(view, at + field.offset, value);
    }
  };
  const read = (view: DataView, at: number): Values<F> => {
    const entries = Object.entries(fields).map(([key, field]) => [
      key,
      field.get(view, at + field.offset),
    ]);
    return Object.fromEntries(entries) as Values<F>;
  };
  const encode = (values: Partial<Values<F>>): Uint8Array<ArrayBuffer> => {
    // From an ArrayBuffer, not by length: small arrays made by length move when they are viewed.
    const bytes = new Uint8Array(new ArrayBuffer(size));
    write(viewOf(bytes), 0, values);
    return bytes;
  };
  return { name, size, fields, encode, write, read, decode: (bytes) => read(viewOf(bytes), 0) };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
