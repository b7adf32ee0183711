/** A release of this product, and which apps its tables are for. */
export interface Release {
  readonly version: string;
  /** The commit that was released. The release that is being made has none yet. */
  readonly commit?: string;
  /** The oldest release whose apps work on the tables of this one. */
  readonly oldest: string;
}

/** All releases, the newest last: it is the one that is being made, and the version in `package.json`. */
export const releases: readonly Release[] = [
  { version: '0.1.0', commit: '930bcba45b6b791279863e9a67bbf38278e99f00', oldest: '0.1.0' },
  { version: '0.2.0', oldest: '0.1.0' },
];

export const thisRelease: Release = releases.at(-1)!;
