import { Injectable, ValidationPipe, type ArgumentMetadata, type Type } from '@nestjs/common';

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;

/**
 * Validates parameters as `ValidationPipe` does. Most requests have no query: one that may be left out is validated
 * once, and then known to be right.
 */
@Injectable()
export class SparingValidation extends ValidationPipe {
  private readonly mayBeEmpty = new Set<Type>();

  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    const { type, metatype } = metadata;
    if (type !== 'query' || !metatype || !isEmpty(value)) return super.transform(value, metadata);
    if (this.mayBeEmpty.has(metatype)) return new metatype();
    const validated: unknown = await super.transform(value, metadata);
    if (validated instanceof metatype) this.mayBeEmpty.add(metatype);
    return validated;
  }
}
