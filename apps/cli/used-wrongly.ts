/** Thrown when the arguments of a command make no sense. */
export class UsedWrongly extends Error {
  override readonly name = 'UsedWrongly';
}
