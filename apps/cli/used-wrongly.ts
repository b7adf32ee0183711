/** The command line asked for something that makes no sense. */
export class UsedWrongly extends Error {
  override readonly name = 'UsedWrongly';
}
