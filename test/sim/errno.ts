/** What the simulated kernel answers with. */

import { constants } from "node:os";

export const {
  EPERM,
  EINTR,
  EIO,
  EBADF,
  ECANCELED,
  ENOBUFS,
  EAGAIN,
  ENOMEM,
  EACCES,
  EFAULT,
  EBUSY,
  EEXIST,
  ENODEV,
  EINVAL,
  ENOSPC,
  EOPNOTSUPP,
  ETIME,
} = constants.errno;
