//! The Gregorian calendar: dates and days since 1970, for whatever writes or reads dates.

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Counts in years that begin in March, so
/// that the leap day is the last of its year, and in eras of 400 years, which all have the same length.
pub fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // One day less per 4 years, one more per 100, one less per 400: the year within the era.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, month lengths repeat as 31 30 31 30 31: 153 days for five months.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day_of_month)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; negative before it. The reverse of [`civil_date`].
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // As above: years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_a_date_that_leads_back_to_it() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!([19_782, 19_783, 20_453].map(civil_date), [(2024, 2, 29), (2024, 3, 1), (2025, 12, 31)]);
        for day in 0..200_000 {
            let (year, month, day_of_month) = civil_date(day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&day_of_month));
            let [year, month, day_of_month, day] = [year, month, day_of_month, day].map(u64::cast_signed);
            assert_eq!(days_since_1970(year, month, day_of_month), day);
        }
        assert_eq!(days_since_1970(1969, 12, 31), -1);
    }
}
