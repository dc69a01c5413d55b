/** A tag of the simulated driver: who has it, its request, and what is known of its data. */

import type { Pages } from "./buffers.ts";
import type { Cqe, Done, SimRing } from "./ring.ts";

export const READ = 0;
export const WRITE = 1;
export const FLUSH = 2;

/** What the block layer asks for. */
export interface Request {
  op: number;
  flags: number;
  sector: number;
  sectors: number;
  /** The request's own pages, where it has data. */
  bytes: Uint8Array;
  /** Once, with 0 or -errno. */
  ended(result: number): void;
}

export const hasData = ({ op }: Request): boolean => op === READ || op === WRITE;

/** unknown → armed ⇄ server; a WRITE in get-data mode goes by way of `asking`. */
export type TagState = "unknown" | "armed" | "asking" | "server" | "aborted";

export class Tag {
  readonly queueId: number;
  readonly tag: number;
  state: TagState = "unknown";
  /** Of the server's buffer; 0 where no bytes are copied. */
  address = 0;
  /** struct ublk_auto_buf_reg of the last command. */
  autoIndex = 0;
  autoFallback = false;
  /** The driver itself has registered the pages. */
  autoRegistered = false;
  ring: SimRing | undefined;
  done: Done | undefined;
  request: Request | undefined;
  /** The completion that took the request to the server. */
  arrival: Cqe | undefined;
  /** Bytes of the request that earlier rounds have done. */
  progress = 0;
  /** Registrations that keep the request from ending. */
  registrations = 0;
  /** The result that was committed while registrations were left. */
  committed: number | undefined;

  constructor(queueId: number, tag: number) {
    this.queueId = queueId;
    this.tag = tag;
  }

  get where(): string {
    return `queue ${this.queueId} tag ${this.tag}`;
  }

  /** The driver can give it a request. */
  get free(): boolean {
    return this.state === "armed" && this.request === undefined;
  }

  /** What is left of the request's pages in this round. */
  get left(): Uint8Array {
    return this.request!.bytes.subarray(this.progress);
  }

  /** The request's pages, for a ring's buffer table. `released`: the last registration is gone. */
  pages(released: () => void): Pages {
    const request = this.request!;
    this.registrations++;
    return {
      bytes: this.left,
      filled: request.op === READ,
      objection: () => (this.request === request ? undefined : "the request has ended"),
      release: () => {
        this.registrations--;
        released();
      },
    };
  }
}
