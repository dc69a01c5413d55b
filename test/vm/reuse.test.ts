// Which guests tell another story, and which do not.

import { expect, test } from "bun:test";
import type { GuestVm } from "./guest_vm.ts";
import { ReusedGuest } from "./reuse.ts";

/** Guests that have been booted, oldest first; each looks as it was told to. */
function pool() {
  const guests: { look: string; closed: boolean; scripts: number }[] = [];
  const boot = async () => {
    const guest = { look: "as booted", closed: false, scripts: 0 };
    guests.push(guest);
    const vm = {
      harness: async () => {
        guest.scripts++;
        if (guest.look === "gone") throw new Error("the guest ended");
        return { status: 0, stdout: guest.look, stderr: "" };
      },
      close: async () => void (guest.closed = true),
      forAnother: () => vm,
    };
    return vm as unknown as GuestVm;
  };
  return { guests, reused: new ReusedGuest(boot) };
}

test("a guest that looks as it did when it had booted tells the next story", async () => {
  const { guests, reused } = pool();
  for (let story = 0; story < 3; story++) await (await reused.lend()).giveBack(true);
  expect(guests).toMatchObject([{ closed: false }]);
});

test.each([
  ["of which a story failed", "as booted", false],
  ["that looks otherwise", "a module more", true],
  ["that is gone", "gone", true],
])("a guest %s does not", async (_, look, clean) => {
  const { guests, reused } = pool();
  const { giveBack } = await reused.lend();
  guests[0]!.look = look;
  await giveBack(clean);
  expect(guests).toMatchObject([{ closed: true }]);
  await reused.lend();
  expect(guests).toMatchObject([{ closed: true }, { closed: false }]);
});
