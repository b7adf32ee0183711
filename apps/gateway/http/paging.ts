import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, Max, Min } from 'class-validator';
import { ApiError } from './api-error';
import { MetaSchema } from './openapi';

const wholeNumber = { message: '"limit" must be a whole number from 1 to 100' };

export class PageQuery {
  @ApiPropertyOptional({ type: 'integer', minimum: 1, maximum: 100, default: 20, description: 'How many a page.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt(wholeNumber)
  @Min(1, wholeNumber)
  @Max(100, wholeNumber)
  limit = 20;

  @ApiPropertyOptional({ description: 'meta.next_cursor of the page before.' })
  @IsOptional()
  @IsString({ message: '"cursor" must be one string' })
  cursor?: string;
}

export class PageMetaSchema extends MetaSchema {
  @ApiProperty({ type: 'string', nullable: true, description: 'For ?cursor= of the next page; null on the last.' })
  next_cursor: string | null;
  @ApiProperty()
  has_more: boolean;
}

/**
 * The id of the last of the page before, which is what a cursor holds; to the client it is opaque.
 *
 * @throws {ApiError} `invalid_parameter`
 */
export function lastOfPageBefore({ cursor }: PageQuery, form: RegExp): string | undefined {
  if (cursor === undefined) return undefined;
  const id = Buffer.from(cursor, 'base64url').toString();
  if (!form.test(id))
    throw new ApiError('invalid_parameter', '"cursor" is not the next_cursor of a page.', { param: 'cursor' });
  return id;
}

/** A page's envelope, of up to one more view than its limit: by the one too many it is known that there are more. */
export function pageOf<View extends { readonly id: string }>(
  views: readonly View[],
  { limit }: PageQuery,
  requestId: string,
): { shown: readonly View[]; meta: PageMetaSchema } {
  const shown = views.slice(0, limit);
  const more = views.length > limit;
  const next_cursor = more ? Buffer.from(shown.at(-1)!.id).toString('base64url') : null;
  return { shown, meta: { request_id: requestId, next_cursor, has_more: more } };
}
