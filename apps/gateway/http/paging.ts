import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { IsInt, IsOptional, IsString, Max, Min } from 'class-validator';
import { ApiError } from './api-error';
import { MetaSchema } from './openapi';

const wholeNumber = { message: '"limit" must be a whole number from 1 to 100' };

export class PageQuery {
  @ApiPropertyOptional({ type: 'integer', minimum: 1, maximum: 100, default: 50, description: 'How many a page.' })
  @IsOptional()
  // Decimal digits only: `Number` reads `0x10` and `1e2` too.
  @Transform(({ value }: { value: unknown }) =>
    typeof value === 'string' && /^[1-9]\d{0,2}$/.test(value) ? Number(value) : NaN,
  )
  @IsInt(wholeNumber)
  @Min(1, wholeNumber)
  @Max(100, wholeNumber)
  limit = 50;

  @ApiPropertyOptional({ description: '`pagination.next_cursor` of the page before.', pattern: '^[A-Za-z0-9_-]+$' })
  @IsOptional()
  @IsString({ message: '"cursor" must be one string' })
  cursor?: string;
}

class PaginationSchema {
  @ApiProperty({ description: 'Whether there is a next page.' })
  has_more: boolean;
  @ApiPropertyOptional({ description: 'For `?cursor=` of the next page; absent on the last.' })
  next_cursor?: string;
}

/** The envelope of a page, without its `data`. */
export class PageEnvelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: PaginationSchema })
  pagination: PaginationSchema;
  @ApiProperty({ type: MetaSchema })
  meta: MetaSchema;
}

const encoded = (id: string): string => Buffer.from(id).toString('base64url');

/**
 * Decodes a cursor, which is opaque to clients: the id of the last item of the page before.
 *
 * @throws {ApiError} `invalid_parameter`
 */
export function lastOfPageBefore({ cursor }: PageQuery, form: RegExp): string | undefined {
  if (cursor === undefined) return undefined;
  const id = Buffer.from(cursor, 'base64url').toString();
  // Node decodes what is no base64url as well; a cursor of ours is encoded in one way.
  if (!form.test(id) || encoded(id) !== cursor)
    throw new ApiError('invalid_parameter', '"cursor" is not the next_cursor of a page.', { param: 'cursor' });
  return id;
}

/**
 * Makes the envelope of a page. Takes up to one view more than the limit, whose presence shows that there is a next
 * page.
 */
export async function pageOf<View extends { readonly id: string }>(
  views: readonly View[],
  { limit }: Pick<PageQuery, 'limit'>,
  requestId: string,
  present: (view: View) => object | Promise<object>,
): Promise<PageEnvelope & { readonly data: readonly object[] }> {
  const shown = views.slice(0, limit);
  const hasMore = views.length > limit;
  return {
    ok: true,
    data: await Promise.all(shown.map(async (view) => present(view))),
    pagination: {
      has_more: hasMore,
      ...(hasMore && { next_cursor: encoded(shown.at(-1)!.id) }),
    },
    meta: { request_id: requestId },
  };
}
